"""How fast a config is on this machine: the step, the data, the start, and how time grows with size."""
