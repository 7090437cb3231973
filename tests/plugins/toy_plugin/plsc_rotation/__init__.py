"""Rotation prediction for plsc. The entry point names this module, and importing it registers the components."""

from plsc_rotation import network, task

__all__ = ["network", "task"]
