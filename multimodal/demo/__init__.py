"""The demo: ``multimodal demo``, and the data that it draws and speaks."""
