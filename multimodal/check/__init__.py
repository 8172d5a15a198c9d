"""Checks of a job's tables before training. Never imports torch."""
