"""The tables of a job, and which of their rows train, validate and test. Never imports torch."""
