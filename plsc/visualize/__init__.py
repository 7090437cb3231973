"""Images and plots of what a run does."""
