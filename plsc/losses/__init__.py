"""Losses. Importing this package registers the built-in ones."""

from plsc.losses.cae import CAELoss
from plsc.losses.classification import CrossEntropy, SumOverHeads

__all__ = ["CAELoss", "CrossEntropy", "SumOverHeads"]
