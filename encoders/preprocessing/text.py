"""Texts: from a string to token ids. Never imports torch."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from encoders.preprocessing.base import (
    Arrays,
    TensorSpec,
    UnreadableValueError,
    config_arguments,
    stack_arrays,
    whole_number,
)

TOKENIZER_FILE = "tokenizer.json"
CHARACTERS_PER_TOKEN = 100  # WordPiece's own limit for one word; texts of people have 1 to 10
_PAD_TOKENS = ("[PAD]", "<pad>", "<PAD>", "<|pad|>")


def text_tensors(length: int | str = "tokens") -> tuple[TensorSpec, ...]:
    """Tensors of a text; ``length`` is the size of the second axis, or its name.

    >>> text_tensors()[0]
    TensorSpec(name='input_ids', dtype='int64', axes=('batch', 'tokens'))
    """
    return tuple(TensorSpec(name, "int64", ("batch", length)) for name in ("input_ids", "attention_mask"))


class TextPreprocessor:
    """Token ids of a text, by a tokenizer that is stored as one JSON file.

    Texts are cut to ``max_tokens`` at their end, special tokens kept. What lies beyond the first
    ``100 * max_tokens`` characters is not even tokenized, so that a book takes no longer than a page. Halves of
    surrogate pairs, which no UTF-8 file can hold, become U+FFFD. A text of which the tokenizer leaves nothing is
    one padding token that counts as real.

    Args:
        tokenizer: taken over as a copy; its own truncation and padding are not used.
        max_tokens: special tokens included.
        pad_id: fills up shorter texts of a batch; None takes it from the tokenizer: its padding, else its
            padding token, else 0.
        fixed_length: every text gets ``max_tokens`` tokens, and those that fill it up count as real: for models that
            were trained so, without a mask.

    >>> from tokenizers.models import WordLevel
    >>> words = Tokenizer(WordLevel({"[UNK]": 0, "apple": 1}, unk_token="[UNK]"))
    >>> TextPreprocessor(words)("apple")["input_ids"].tolist()
    [1]

    Raises:
        ValueError: if the tokenizer cannot be read or used, or ``max_tokens`` leaves no room for a token.
    """

    modality: str = "text"
    tensors: tuple[TensorSpec, ...] = text_tensors()

    def __init__(
        self,
        tokenizer: Tokenizer | str,
        *,
        max_tokens: int = 128,
        pad_id: int | None = None,
        fixed_length: bool = False,
    ) -> None:
        self._tokenizer = _load(tokenizer)
        self.pad_id = _find_pad_id(self._tokenizer) if pad_id is None else whole_number("pad_id", pad_id, least=0)
        special = self._tokenizer.num_special_tokens_to_add(False)
        self.max_tokens = whole_number("max_tokens", max_tokens, least=special + 1)
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(self.max_tokens)
        self.fixed_length = fixed_length
        self.tensors = text_tensors(self.max_tokens if fixed_length else "tokens")

    def __call__(self, raw: Any) -> Arrays:
        """``input_ids`` and ``attention_mask`` int64 ``[l]`` of one text.

        Raises:
            UnreadableValueError: if ``raw`` is not a str, or the tokenizer fails on it.
        """
        if not isinstance(raw, str):
            raise UnreadableValueError(f"a text cannot be a {type(raw).__name__}; give a str")
        text = _well_formed(raw[: CHARACTERS_PER_TOKEN * self.max_tokens])
        try:
            ids = self._tokenizer.encode(text).ids
        except Exception as error:  # tokenizers raises nothing more special
            raise UnreadableValueError(f"the tokenizer fails on this text ({error}); change either") from error
        return self._arrays(ids if ids else [self.pad_id])

    @cached_property
    def largest_values(self) -> dict[str, int]:
        """Tensor -> largest value in it; the smallest is 0."""
        last = max(self._tokenizer.get_vocab().values(), default=0)
        return {"input_ids": max(last, self.pad_id), "attention_mask": 1}

    def blank(self) -> Arrays:
        """One padding token that counts as real."""
        return self._arrays([self.pad_id])

    def _arrays(self, ids: list[int]) -> Arrays:
        filling = [self.pad_id] * (self.max_tokens - len(ids) if self.fixed_length else 0)
        input_ids = np.array([*ids, *filling], dtype=np.int64)
        return {"input_ids": input_ids, "attention_mask": np.ones_like(input_ids)}

    def stack(self, samples: Sequence[Arrays]) -> Arrays:
        """Both int64 ``[b, l]``; shorter texts end in ``pad_id`` with mask 0."""
        return stack_arrays(samples, self.tensors, {"input_ids": self.pad_id})

    def to_config(self) -> dict[str, Any]:
        """JSON that ``from_config`` takes, together with ``assets``."""
        fixed = {"fixed_length": True} if self.fixed_length else {}
        return {"kind": "text", "max_tokens": self.max_tokens, "pad_id": self.pad_id, **fixed}

    def assets(self) -> dict[str, str]:
        """The tokenizer as ``tokenizer.json``."""
        return {TOKENIZER_FILE: self._tokenizer.to_str()}

    @classmethod
    def from_config(cls, config: Mapping[str, Any], assets: Mapping[str, str]) -> "TextPreprocessor":
        """Rebuilds it; refuses unknown keys."""
        arguments = config_arguments("text", config, ("max_tokens", "pad_id", "fixed_length"))
        if TOKENIZER_FILE not in assets:
            raise ValueError(f"a text preprocessor needs the file {TOKENIZER_FILE}, which is not there; copy it again")
        return cls(assets[TOKENIZER_FILE], **arguments)


def _load(tokenizer: Tokenizer | str) -> Tokenizer:
    """A copy that has encoded one text: JSON names no code, but may describe a tokenizer that cannot run."""
    try:
        loaded = Tokenizer.from_str(tokenizer if isinstance(tokenizer, str) else tokenizer.to_str())
        loaded.encode("A 1\u00e9\u6f22")
    except BaseException as error:  # a panic of tokenizers is not an Exception
        if isinstance(error, KeyboardInterrupt | SystemExit | MemoryError):
            raise
        raise ValueError(
            f"this is no tokenizer that can be used ({error}); give the content of a tokenizer.json as written by "
            "the library tokenizers"
        ) from error
    return loaded


def _find_pad_id(tokenizer: Tokenizer) -> int:
    if tokenizer.padding is not None:
        return int(tokenizer.padding["pad_id"])
    ids = (tokenizer.token_to_id(token) for token in _PAD_TOKENS)
    return next((found for found in ids if found is not None), 0)


def _well_formed(text: str) -> str:
    """The text with halves of surrogate pairs joined or replaced; tokenizers takes no others.

    >>> _well_formed("caf\\u00e9 \\ud83d") == "caf\\u00e9 \\ufffd"
    True
    """
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
