"""Reports of runs: one self-contained HTML page from the files in the output directories."""
