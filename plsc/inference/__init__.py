"""Use of trained networks."""
