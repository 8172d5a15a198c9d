"""ONNX files as frozen encoders: their description, the graph around them, and the check before they are opened."""
