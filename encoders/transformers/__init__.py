"""Models of transformers: loading them, and which encoder reads them."""
