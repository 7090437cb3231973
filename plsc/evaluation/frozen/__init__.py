"""Classification with frozen features."""
