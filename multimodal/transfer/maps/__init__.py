"""Affine maps of features, within one domain or between two; each folds into a linear head."""
