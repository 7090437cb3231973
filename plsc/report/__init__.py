"""Runs as one self-contained HTML page. Reads what a run has left on disk; needs no Paddle."""
