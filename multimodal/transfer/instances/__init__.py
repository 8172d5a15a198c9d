"""Weights of source records."""
