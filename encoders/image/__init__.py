"""Image encoders, a file for each library that they come from."""
