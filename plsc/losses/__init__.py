"""Losses. Importing this package registers the built-in ones."""

from plsc.losses.cae import CAELoss
from plsc.losses.classification import CrossEntropy

__all__ = ["CAELoss", "CrossEntropy"]
