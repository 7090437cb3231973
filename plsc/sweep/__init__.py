"""Sweeps: runs of one config with several settings."""
