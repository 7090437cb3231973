"""A run's output directory."""
