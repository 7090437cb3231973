"""Output directory of a run: writing and reading of its files."""
