"""Figures of the data, the network and the schedules of a run."""
