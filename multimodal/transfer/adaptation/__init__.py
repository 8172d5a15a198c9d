"""Losses that align source and target without target labels."""
