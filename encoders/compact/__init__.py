"""Our own small encoders: they run offline on a CPU and learn from a few thousand records."""
