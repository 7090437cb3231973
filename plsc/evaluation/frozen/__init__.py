"""Classification by frozen features."""
