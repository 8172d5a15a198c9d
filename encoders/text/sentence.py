"""Folders of sentence-transformers: what they say of pooling, length and letters."""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from encoders.text.pooling import ACTIVATIONS
from encoders.text.tokenizer import LOWERCASE, STRIP
from encoders.weights.hub import OLD_WEIGHTS, SAFE_WEIGHTS, model_folder, read_modules

FLAGS = {
    "cls": "pooling_mode_cls_token",
    "max": "pooling_mode_max_tokens",
    "mean": "pooling_mode_mean_tokens",
    "mean_sqrt_len": "pooling_mode_mean_sqrt_len_tokens",
    "weightedmean": "pooling_mode_weightedmean_tokens",
    "lasttoken": "pooling_mode_lasttoken",
}
"""Our modes -> keys of ``1_Pooling/config.json``; newer folders have the modes' names under ``pooling_mode``."""


@dataclass(frozen=True)
class SentenceFolder:
    """Settings and modules around the transformer of a sentence-transformers folder."""

    folder: Path

    @classmethod
    def find(cls, folder: Path) -> "SentenceFolder | None":
        """None where ``modules.json`` is not there, or lists no pooling."""
        return cls(folder) if any(_kind(module) == "Pooling" for module in read_modules(folder)) else None

    @property
    def max_tokens(self) -> int | None:
        """Texts are cut to as many."""
        return self._settings.get("max_seq_length")

    @property
    def normalizers(self) -> list[dict[str, Any]]:
        """Its changes to a text before tokenizing, for the library tokenizers."""
        return [LOWERCASE, STRIP] if self._settings.get("do_lower_case") else [STRIP]

    @cached_property
    def steps(self) -> list[dict[str, Any]]:
        """Description that ``SentencePooling`` takes.

        Raises:
            ValueError: if a file is damaged, or a module is of a kind that is not known.
        """
        return [_read_step(place, kind) for place, kind in self._modules]

    @property
    def files(self) -> dict[int, Path]:
        """Index of a step after the pooling -> file with its weights, there or not."""
        after = enumerate(self._modules[1:])
        return {index: _weights_in(place) for index, (place, kind) in after if kind in ("Dense", "LayerNorm")}

    @property
    def is_mean(self) -> bool:
        """True if the embedding is the mean of the tokens, but for its length."""
        return self.steps[0].get("modes") == ["mean"] and all(step["kind"] == "normalize" for step in self.steps[1:])

    @property
    def _modules(self) -> list[tuple[Path, str]]:
        """Modules after the transformer; nothing is dropped out once training is over."""
        modules = [(self.folder / module["path"], _kind(module)) for module in read_modules(self.folder)[1:]]
        return [(place, kind) for place, kind in modules if kind != "Dropout"]

    @property
    def _settings(self) -> dict[str, Any]:
        return next((_read(path) for path in sorted(model_folder(self.folder).glob("sentence_*_config.json"))), {})


def _kind(module: dict[str, Any]) -> str:
    """Its class, without the package it was in; no code of that name is imported."""
    return str(module.get("type")).rpartition(".")[2]


def _read_step(place: Path, kind: str) -> dict[str, Any]:
    readers = {"Pooling": _pooling, "Dense": _dense, "LayerNorm": _layer_norm, "Normalize": _normalize}
    if kind not in readers:
        raise ValueError(
            f"{place}: there is no way to read the sentence-transformers module {kind}; give pooling='tokens', or a "
            f"model of {', '.join(readers)}"
        )
    return readers[kind](place)


def _pooling(place: Path) -> dict[str, Any]:
    config = _read(place / "config.json")
    named = config.get("pooling_mode")
    modes = [mode for mode, flag in FLAGS.items() if config.get(flag)]
    if named is not None:
        modes = [named] if isinstance(named, str) else list(named)
    return {"kind": "pool", "modes": [str(mode).removesuffix("_tokens") for mode in modes]}


def _dense(place: Path) -> dict[str, Any]:
    config = _read(place / "config.json", ("in_features", "out_features"))
    activation = str(config.get("activation_function", "Tanh")).rpartition(".")[2]
    if activation not in ACTIVATIONS:
        raise ValueError(f"{place}: its activation is {activation}; give a model with {', '.join(ACTIVATIONS)}")
    size = [config["in_features"], config["out_features"]]
    return {"kind": "dense", "size": size, "bias": bool(config.get("bias", True)), "activation": activation}


def _layer_norm(place: Path) -> dict[str, Any]:
    return {"kind": "layer_norm", "size": _read(place / "config.json", ("dimension",))["dimension"]}


def _normalize(place: Path) -> dict[str, Any]:
    return {"kind": "normalize"}


def _read(path: Path, needed: tuple[str, ...] = ()) -> dict[str, Any]:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        return {**config, **{key: config[key] for key in needed}}
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ValueError(
            f"{path}: is damaged or not there ({error}); copy the model again, or give pooling='tokens'"
        ) from error


def _weights_in(place: Path) -> Path:
    names = (SAFE_WEIGHTS[0], OLD_WEIGHTS[0])
    return next((place / name for name in names if (place / name).is_file()), place / names[0])
