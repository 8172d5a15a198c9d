"""Triton model repository of a bundle: preprocessing, graph and postprocessing as one ensemble. Never imports torch."""

from export.triton.repository import write_triton_repository

__all__ = ["write_triton_repository"]
