"""What a run would need on devices that are not here: memory, time, communication. From formulas; nothing is run."""
