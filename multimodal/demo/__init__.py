"""The demo: ``multimodal demo``, and its data."""
