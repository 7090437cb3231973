"""Metrics, and measures of features. Importing this package registers the metrics."""

from plsc.evaluation import metrics

__all__ = ["metrics"]
