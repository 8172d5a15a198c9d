"""Weights: where they come from, how they are fetched, read and fitted."""
