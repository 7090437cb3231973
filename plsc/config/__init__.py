"""YAML files and overrides, read into one checked tree."""
