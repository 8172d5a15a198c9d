"""The tokenizer of a model folder, as a preprocessor that suits the model."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer
from torch import nn

from encoders.hub import TOKENIZER_FILE, locate
from encoders.preprocessing import Arrays
from encoders.preprocessing.base import whole_number
from encoders.preprocessing.text import TextPreprocessor

MAX_TOKENS = 128
"""Texts are cut to as many unless something else is asked for; attention's cost grows with its square."""


def checked_length(name: str, model: Any, max_tokens: int | None) -> int:
    """How many tokens of a text are used: what was asked for, else 128 or what the model has positions for.

    Raises:
        ValueError: if more is asked for than the model has positions for.
    """
    longest = _positions(model)
    if max_tokens is None:
        return MAX_TOKENS if longest is None else min(MAX_TOKENS, longest)
    if longest is not None and whole_number("max_tokens", max_tokens) > longest:
        raise ValueError(f"max_tokens is {max_tokens}, but {name} has {longest} positions; give at most {longest}")
    return max_tokens


def _positions(model: Any) -> int | None:
    for path, module in model.named_modules():
        if path.endswith("position_embeddings") and isinstance(module, nn.Embedding):
            # RoBERTa counts positions from the one after its padding's
            return module.num_embeddings - (0 if module.padding_idx is None else module.padding_idx + 1)
    return getattr(model.config, "max_position_embeddings", None)


def text_preprocessor(folder: Path, *, max_tokens: int, pad_id: int | None, vocab_size: int) -> TextPreprocessor:
    """The folder's tokenizer, cutting and padding as asked.

    Raises:
        FileNotFoundError: if the folder has no ``tokenizer.json``.
        ValueError: if it cannot be used, or has token ids beyond ``vocab_size``.
    """
    path = folder / TOKENIZER_FILE
    if not path.is_file():
        raise FileNotFoundError(
            f"{folder} holds no {TOKENIZER_FILE}, and no other form of tokenizer is read; write one with "
            "transformers.AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER)"
        )
    text = path.read_text(encoding="utf-8")
    preprocessor = TextPreprocessor(text, max_tokens=max_tokens, pad_id=pad_id)
    last = max(Tokenizer.from_str(text).get_vocab().values(), default=0)
    if last >= vocab_size:
        raise ValueError(
            f"{path} has token ids up to {last}, but the model knows {vocab_size} tokens; take both from one model"
        )
    return preprocessor


class LateTextPreprocessor:
    """Looks for a model's tokenizer when it is first used, and is a TextPreprocessor from then on.

    For an encoder that is rebuilt from its config: whoever rebuilds it brings the preprocessor, too, and the
    model's folder may be gone.

    Args:
        source: folder or hub id.
        **settings: as ``text_preprocessor`` takes them.
    """

    modality: str = "text"
    tensors = TextPreprocessor.tensors

    def __init__(self, source: str, **settings: Any) -> None:
        self.source, self.settings = source, settings

    @cached_property
    def _found(self) -> TextPreprocessor:
        return text_preprocessor(locate(self.source, with_weights=False), **self.settings)

    def __call__(self, raw: Any) -> Arrays:
        """As TextPreprocessor; so are the others."""
        return self._found(raw)

    def blank(self) -> Arrays:
        """One padding token that counts as real."""
        return self._found.blank()

    def stack(self, samples: Sequence[Arrays]) -> Arrays:
        """Both tensors, padded."""
        return self._found.stack(samples)

    def to_config(self) -> dict[str, Any]:
        """JSON of the TextPreprocessor."""
        return self._found.to_config()

    def assets(self) -> dict[str, str]:
        """Its tokenizer."""
        return self._found.assets()
