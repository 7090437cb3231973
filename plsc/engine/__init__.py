"""The engine: assembles a run from a config and takes it to its end. Start reading at build.py."""

from plsc.engine import callbacks, metrics, monitors

__all__ = ["callbacks", "metrics", "monitors"]
