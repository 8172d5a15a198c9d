"""Averages of weights at the end of a training, and whether one is better than the best epoch."""
