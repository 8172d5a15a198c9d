"""Explanations of predictions: contributions of inputs, regions, words and seconds. Never imports torch.

Every method sees the model as a ``RecordModel``, which a run and a bundle both give.
"""
