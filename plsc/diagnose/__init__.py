"""Diagnosis of the environment and of failed training steps."""
