"""What frozen encoders said, kept: their tokens, several views of a value, and maps of tokens."""
