"""Runs with several settings."""
