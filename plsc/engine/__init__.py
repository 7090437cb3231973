"""The training loop of every method. Start reading at build.py."""

from plsc.engine import callbacks

__all__ = ["callbacks"]
