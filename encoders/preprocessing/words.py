"""Texts for word vectors: from a string to the numbers of its words. Never imports torch."""

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from encoders.preprocessing.base import (
    Arrays,
    TensorSpec,
    UnreadableValueError,
    config_arguments,
    stack_arrays,
    whole_number,
)
from encoders.preprocessing.text import CHARACTERS_PER_TOKEN, text_tensors

VOCABULARY_FILE = "vocabulary.txt"
UNKNOWN = 0
"""Number of what is no word of the vocabulary; its vector is zero."""
_WORDS = re.compile(r"\w+(?:[-'.,:/]\w+)*|[^\w\s]")
_PARTS = re.compile(r"\w+|[^\w\s]")


class WordPreprocessor:
    """Numbers of a text's words, by a list of words: the first has number 1, 0 stands for none of them.

    Words are runs of letters and digits, also with a sign inside (``don't``, ``1.5``); other signs are words of their
    own. A word is looked up as it is written, then in small letters; one that is unknown both ways gives way to its
    parts at the signs inside, and what is unknown then is left out. A text of which nothing is known is one token with
    number 0. After ``max_tokens`` words a text is cut; what lies beyond its first ``100 * max_tokens`` characters is
    not looked at.

    Args:
        words: the vocabulary; none holds spaces.

    >>> WordPreprocessor(["red", "apple", "don't"])("A red Apple-tree, don't!")["input_ids"].tolist()
    [1, 2, 3]

    Raises:
        ValueError: if there are no words, or one is there twice or cannot be.
    """

    modality: str = "text"
    tensors: tuple[TensorSpec, ...] = text_tensors()

    def __init__(self, words: Iterable[str], *, max_tokens: int = 128) -> None:
        self.words = tuple(words)
        self.max_tokens = whole_number("max_tokens", max_tokens)
        self._numbers = {word: number for number, word in enumerate(self.words, start=1)}
        if not self.words or len(self._numbers) < len(self.words):
            raise ValueError(
                f"the vocabulary has {len(self.words)} words, {len(self._numbers)} of them different; give each "
                "once, and at least one"
            )
        bad = next((word for word in self.words if word.split() != [word]), None)
        if bad is not None:
            raise ValueError(f"the vocabulary holds {bad!r}, which no text can hold as one word; leave it out")

    def __call__(self, raw: Any) -> Arrays:
        """``input_ids`` and ``attention_mask`` int64 ``[l]`` of one text.

        Raises:
            UnreadableValueError: if ``raw`` is not a str.
        """
        if not isinstance(raw, str):
            raise UnreadableValueError(f"a text cannot be a {type(raw).__name__}; give a str")
        text = unicodedata.normalize("NFC", raw[: CHARACTERS_PER_TOKEN * self.max_tokens]).replace("\u2019", "'")
        numbers = [number for number, _ in zip(self._look_up(text), range(self.max_tokens), strict=False)]
        input_ids = np.array(numbers if numbers else [UNKNOWN], dtype=np.int64)
        return {"input_ids": input_ids, "attention_mask": np.ones_like(input_ids)}

    def _look_up(self, text: str) -> Iterator[int]:
        for word in _WORDS.findall(text):
            number = self._number(word)
            if number is not None:
                yield number
                continue
            yield from (known for part in _PARTS.findall(word) if (known := self._number(part)) is not None)

    def _number(self, word: str) -> int | None:
        number = self._numbers.get(word)
        return self._numbers.get(word.lower()) if number is None else number

    @property
    def largest_values(self) -> dict[str, int]:
        """Tensor -> largest value in it; the smallest is 0."""
        return {"input_ids": len(self.words), "attention_mask": 1}

    def blank(self) -> Arrays:
        """One unknown word."""
        return {"input_ids": np.array([UNKNOWN]), "attention_mask": np.ones(1, np.int64)}

    def stack(self, samples: Sequence[Arrays]) -> Arrays:
        """Both int64 ``[b, l]``; shorter texts end in 0 with mask 0."""
        return stack_arrays(samples, self.tensors, {"input_ids": UNKNOWN})

    def to_config(self) -> dict[str, Any]:
        """JSON that ``from_config`` takes, together with ``assets``."""
        return {"kind": "words", "max_tokens": self.max_tokens}

    def assets(self) -> dict[str, str]:
        """The words as ``vocabulary.txt``, one a line."""
        return {VOCABULARY_FILE: "".join(f"{word}\n" for word in self.words)}

    @classmethod
    def from_config(cls, config: Mapping[str, Any], assets: Mapping[str, str]) -> "WordPreprocessor":
        """Rebuilds it; refuses unknown keys."""
        arguments = config_arguments("words", config, ("max_tokens",))
        if VOCABULARY_FILE not in assets:
            raise ValueError(f"a preprocessor of words needs the file {VOCABULARY_FILE}; copy it again")
        return cls(assets[VOCABULARY_FILE].split("\n")[:-1], **arguments)
