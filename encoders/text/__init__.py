"""Text encoders, a file for each source that they come from."""
