"""Memory, time and communication of a run on given devices, from formulas; nothing is run."""
