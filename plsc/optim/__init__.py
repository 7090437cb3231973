"""Parameter groups, optimizers, learning-rate schedules, and the moving average of weights."""

from plsc.optim import optimizers, schedules  # noqa: F401 - importing them registers their components
