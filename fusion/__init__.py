"""Fusion: tokens of several inputs in, one vector per record out. Importing this package does not load torch."""

from encoders.lazy import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
