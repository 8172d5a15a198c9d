"""The tokenizer of a model folder, as a preprocessor that suits the model."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer
from torch import nn

from encoders.preprocessing.base import whole_number
from encoders.preprocessing.text import TextPreprocessor
from encoders.weights.hub import TOKENIZER_FILE, TOKENIZER_SETTINGS, locate, model_folder, read_json

MAX_TOKENS = 128
"""Texts are cut to as many unless something else is asked for; attention's cost grows with its square."""


def checked_length(name: str, model: Any, max_tokens: int | None) -> int:
    """Number of tokens of a text that are used: as asked for, else 128 or as many as the model has positions for.

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


def padding_id(config: Any) -> int | None:
    """The id that a model's config pads with, else its end of text; None where it names none that it knows.

    Decoders often have no padding of their own; as it is masked, any token does.
    """
    for given in (getattr(config, "pad_token_id", None), getattr(config, "eos_token_id", None)):
        first = given[0] if isinstance(given, list | tuple) and given else given
        if isinstance(first, int) and 0 <= first < config.vocab_size:
            return first
    return None


def text_preprocessor(
    source: str | Path,
    *,
    max_tokens: int,
    pad_id: int | None,
    vocab_size: int,
    normalizers: Sequence[dict[str, Any]] = (),
    reads_padding: bool = False,
) -> TextPreprocessor:
    """The tokenizer of a folder or hub id, cutting and padding as asked.

    Args:
        normalizers: of the library tokenizers, as JSON; go before the tokenizer's own.
        reads_padding: the model was trained on padding as if it were text: every text gets ``max_tokens`` tokens, and
            padding is the tokenizer's own.

    Raises:
        FileNotFoundError: if the folder has no ``tokenizer.json``.
        ValueError: if it cannot be used, or has token ids beyond ``vocab_size``.
    """
    root = locate(source, with_weights=False)
    folder = model_folder(root) if (model_folder(root) / TOKENIZER_FILE).is_file() else root
    path = folder / TOKENIZER_FILE
    if not path.is_file():
        raise FileNotFoundError(
            f"{folder} holds no {TOKENIZER_FILE}, and no other form of tokenizer is read; write one with "
            "transformers.AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER)"
        )
    text = path.read_text(encoding="utf-8")
    if reads_padding:
        described = folder / TOKENIZER_SETTINGS
        settings = read_json(described) if described.is_file() else {}
        kind = str(settings.get("tokenizer_class")).removesuffix("Fast")
        normalizers = (*SIGLIP_NORMALIZERS.get(kind, ()), *normalizers)
        own = _padding_token(text, settings)
        pad_id = pad_id if own is None else own
    preprocessor = TextPreprocessor(
        _prepend(text, normalizers), max_tokens=max_tokens, pad_id=pad_id, fixed_length=reads_padding
    )
    last = max(Tokenizer.from_str(text).get_vocab().values(), default=0)
    if last >= vocab_size:
        raise ValueError(
            f"{path} has token ids up to {last}, but the model knows {vocab_size} tokens; take both from one model"
        )
    return preprocessor


def _padding_token(text: str, settings: dict[str, Any]) -> int | None:
    """Id of the padding that the tokenizer itself names."""
    token = settings.get("pad_token")
    name = token.get("content") if isinstance(token, dict) else token
    return Tokenizer.from_str(text).token_to_id(name) if isinstance(name, str) else None


STRIP = {"type": "Strip", "strip_left": True, "strip_right": True}
LOWERCASE = {"type": "Lowercase"}
SIGLIP_NORMALIZERS: dict[str, list[dict[str, Any]]] = {
    "SiglipTokenizer": [
        LOWERCASE,
        {"type": "Replace", "pattern": {"Regex": r"[!-/:-@\[-`{-~]"}, "content": ""},
        {"type": "Replace", "pattern": {"Regex": r"\s+"}, "content": " "},
        STRIP,
    ],
    "Siglip2Tokenizer": [LOWERCASE],
}
"""Steps of these tokenizers of transformers in Python, before their ``tokenizer.json`` or sentencepiece model."""


def _prepend(text: str, normalizers: Sequence[dict[str, Any]]) -> str:
    if not normalizers:
        return text
    tokenizer = json.loads(text)
    own = tokenizer.get("normalizer")
    tokenizer["normalizer"] = {"type": "Sequence", "normalizers": [*normalizers, *([own] if own else [])]}
    return json.dumps(tokenizer)
