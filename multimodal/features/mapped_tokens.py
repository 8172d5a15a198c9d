"""Kept tokens of source records, moved to where the target's are."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from encoders.preprocessing import Arrays
from multimodal.features.readers import FeatureReader, TokenPreprocessor
from multimodal.records import InputReader
from multimodal.transfer.maps.affine import AffineMap


class MappedTokens(TokenPreprocessor):
    """Preprocessor of tokens that a map takes first.

    Args:
        tokens: what stacks them unmoved.
        move: between features of one dim.
    """

    def __init__(self, tokens: TokenPreprocessor, move: AffineMap) -> None:
        super().__init__(tokens.modality, tokens.dim)
        self.move = move

    def __call__(self, raw: np.ndarray) -> Arrays:
        """Tokens [l d], moved."""
        return super().__call__(self.move.transform(raw).astype(np.float32))


def mapped_readers(readers: Mapping[str, InputReader], moves: Mapping[str, AffineMap]) -> dict[str, InputReader]:
    """The readers, those of the named inputs with their tokens moved."""
    return {name: _moved(reader, moves[name]) if name in moves else reader for name, reader in readers.items()}


def _moved(reader: InputReader, move: AffineMap) -> InputReader:
    assert isinstance(reader, FeatureReader), "only kept tokens can be moved"
    assert isinstance(reader.preprocessor, TokenPreprocessor)
    return replace(reader, preprocessor=MappedTokens(reader.preprocessor, move))
