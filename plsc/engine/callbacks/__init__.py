"""Callbacks of a run. Importing this package registers them."""

from plsc.engine.callbacks import frozen_probe, pictures

__all__ = ["frozen_probe", "pictures"]
