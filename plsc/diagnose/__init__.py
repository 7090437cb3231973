"""Diagnosis of a machine and of failed steps."""
