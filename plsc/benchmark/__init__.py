"""Speed of a config on this machine: training step, data, start-up, and scaling with model and image size."""
