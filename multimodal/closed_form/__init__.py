"""Heads that are computed from the tokens of frozen encoders, not trained step by step."""
