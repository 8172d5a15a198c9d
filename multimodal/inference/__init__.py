"""Predictions of records by a trained model, whether torch or onnxruntime computes them. Never imports torch."""
