"""Optimizers, parameter groups, learning-rate schedules and the EMA of weights."""

from plsc.optim import optimizers, schedules  # noqa: F401 - importing them registers their components
