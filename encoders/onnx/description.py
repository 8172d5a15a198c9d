"""Description of an encoder of ONNX files: ``encoder.json`` beside them, else what the file's inputs tell."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from encoders.preprocessing.base import nearest_hint, whole_number
from encoders.preprocessing.text import TOKENIZER_FILE

DESCRIPTION_FILE = "encoder.json"
IMAGENET_MEAN, IMAGENET_STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
"""Of pixels in 0..255, https://docs.pytorch.org/vision/stable/models.html."""
_TOKENS = ("tokens", "last_hidden_state", "embedding", "embeddings", "features", "pooler_output")
"""Names of outputs, the first that there is."""


@dataclass(frozen=True)
class Stage:
    """One file of a chain."""

    file: str
    inputs: Mapping[str, str] = field(default_factory=dict)
    """Input of the graph -> tensor of the preprocessor, ``previous`` (output of the file before), or ``zeros``."""
    output: str | None = None
    """None: the only one."""
    mean: float | Sequence[float] = 0.0
    """What the graph reads is ``(value - mean) / std``; a list has a number per channel of an image."""
    std: float | Sequence[float] = 1.0
    window: tuple[int, int] | None = None
    """Size and step along time of the parts that the graph reads one by one; each becomes a token."""


@dataclass(frozen=True)
class Description:
    """Files of an encoder, and what they read."""

    folder: Path
    stages: tuple[Stage, ...]
    preprocess: Mapping[str, Any]
    """Config of a preprocessor."""
    licence: str = "unknown"
    silence: float = 0.0
    """Seconds before and after each clip, which count as real."""

    @property
    def paths(self) -> list[Path]:
        """The files."""
        return [self.folder / stage.file for stage in self.stages]

    @property
    def assets(self) -> dict[str, str]:
        """Files of the preprocessor: the tokenizer of texts."""
        path = self.folder / TOKENIZER_FILE
        if self.preprocess["kind"] != "text":
            return {}
        if not path.is_file():
            raise FileNotFoundError(f"{path} is not there; the encoder reads texts and needs their tokenizer")
        return {TOKENIZER_FILE: path.read_text(encoding="utf-8")}


@dataclass(frozen=True)
class GraphInput:
    """Input of a graph as its file declares it."""

    name: str
    is_whole: bool
    """Whether it is of integers."""
    axes: tuple[int | str, ...]
    is_bytes: bool = False
    """Whether it is of uint8."""


def find_description(path: Path) -> tuple[Path, Mapping[str, Any] | None]:
    """The folder of an encoder's files, and the content of its ``encoder.json``, if any.

    Args:
        path: an ONNX file, or a folder with ``encoder.json``.

    Raises:
        FileNotFoundError: if there is neither.
        ValueError: if the description is damaged, or describes other files than the one that is named.
    """
    folder = path if path.is_dir() else path.parent
    file = folder / DESCRIPTION_FILE
    if not (file if path.is_dir() else path).is_file():
        raise FileNotFoundError(
            f"there is no ONNX encoder {str(path)!r}; give onnx/ and the path of an ONNX file, or of a folder with "
            f"{DESCRIPTION_FILE}, which names its files"
        )
    if not file.is_file():
        return folder, None
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{file}: is no JSON ({error}); correct it") from error
    if not isinstance(content, dict) or not isinstance(content.get("graphs"), list) or not content["graphs"]:
        raise ValueError(f'{file}: needs "graphs": [{{"file": "model.onnx"}}]; correct it')
    if path.is_file() and path.name not in [stage.get("file") for stage in map(dict, content["graphs"])]:
        raise ValueError(f"{file}: does not describe {path.name}; put the files into a folder of their own")
    return folder, content


def read_description(folder: Path, content: Mapping[str, Any]) -> Description:
    """Content of ``encoder.json`` as an object.

    Raises:
        ValueError: for what it cannot say, with the place.
    """
    file = folder / DESCRIPTION_FILE
    _known_keys(str(file), content, ("graphs", "preprocess", "licence", "silence"))
    stages = tuple(_stage(f"{file}, graphs[{index}]", entry) for index, entry in enumerate(content["graphs"]))
    if not isinstance(content.get("preprocess"), dict) or "kind" not in content["preprocess"]:
        raise ValueError(f'{file}: needs "preprocess": {{"kind": ...}} with image, text or audio; add it')
    silence = content.get("silence", 0.0)
    is_number = isinstance(silence, int | float) and not isinstance(silence, bool)
    if not is_number or not 0 <= silence <= 10 or (silence and content["preprocess"]["kind"] != "audio"):
        raise ValueError(f"{file}: silence is {silence!r}; give seconds from 0 to 10, of audio alone")
    return Description(folder, stages, content["preprocess"], str(content.get("licence", "unknown")), silence)


def guess_description(path: Path, inputs: Sequence[GraphInput]) -> Description:
    """Description that a single file's inputs tell.

    They are an image ``[b 3 h w]`` or ``[b h w 3]``, a waveform ``[b s]`` or ``[s]``, or token ids ``[b l]``.

    Raises:
        ValueError: if they tell nothing.
    """
    main = [entry for entry in inputs if not entry.is_whole or entry.is_bytes]
    if inputs and not main and all(len(entry.axes) == 2 for entry in inputs):
        return Description(path.parent, (Stage(path.name),), {"kind": "text"})
    if len(inputs) == 1 and len(main) == 1:
        axes = main[0].axes
        if len(axes) == 4 and 3 in (axes[1], axes[3]):
            high, wide = axes[2:] if axes[1] == 3 else axes[1:3]
            size = high if isinstance(high, int) else 224
            if isinstance(wide, int) and wide != size:
                raise ValueError(f"reads images of {high} x {wide}, and images are square here; export it so")
            stage = Stage(path.name)
            if not main[0].is_bytes:
                stage = Stage(path.name, mean=IMAGENET_MEAN, std=IMAGENET_STD)
            return Description(path.parent, (stage,), {"kind": "image", "size": size})
        if len(axes) in (1, 2):
            samples = axes[-1] if isinstance(axes[-1], int) else None
            least = {} if samples is None else {"min_seconds": samples / 16_000}
            window = None if samples is None else (samples, samples)
            return Description(path.parent, (Stage(path.name, window=window),), {"kind": "audio", **least})
    listed = ", ".join(f"{entry.name} {list(entry.axes)}" for entry in inputs)
    raise ValueError(
        f"its inputs ({listed}) are no single image, waveform or token ids; write {DESCRIPTION_FILE} beside it "
        "(docs/onnx_encoders.md)"
    )


def sources(stage: Stage, graph_inputs: Sequence[GraphInput], tensors: Sequence[str], *, first: bool) -> dict[str, str]:
    """Input of the graph -> where its values come from.

    Raises:
        ValueError: if that of an input is not known.
    """
    names = [entry.name for entry in graph_inputs]
    for name, source in stage.inputs.items():
        allowed = (*tensors, "zeros") if first else ("previous", "zeros")
        if name not in names or source not in allowed:
            raise ValueError(
                f"{stage.file}: inputs has {name!r}: {source!r}; the graph's are {', '.join(names)}, from "
                f"{', '.join(allowed)}"
            )
    found = dict(stage.inputs)
    main = tensors[0] if first else "previous"
    for name in names:
        if name not in found:
            if len(names) == 1:
                found[name] = main
            elif first and name in tensors:
                found[name] = name
            elif "token_type" in name or "segment" in name:
                found[name] = "zeros"
            else:
                raise ValueError(f"{stage.file}: what its input {name!r} reads is not known; {_say('inputs', names)}")
    return found


def chosen_output(stage: Stage, names: Sequence[str]) -> str:
    """The output that is the tokens or the embedding.

    Raises:
        ValueError: if it is not known.
    """
    if stage.output is not None:
        if stage.output not in names:
            raise ValueError(f"{stage.file}: has no output {stage.output!r}{nearest_hint(stage.output, names)}")
        return stage.output
    known = names if len(names) == 1 else [name for name in _TOKENS if name in names]
    if not known:
        raise ValueError(f"{stage.file}: which of its outputs are the tokens is not known; {_say('output', names)}")
    return known[0]


def _say(key: str, names: Sequence[str]) -> str:
    return f"say it as {key!r} in {DESCRIPTION_FILE} (there are {', '.join(names)})"


def _stage(place: str, entry: Any) -> Stage:
    if not isinstance(entry, dict) or not isinstance(entry.get("file"), str):
        raise ValueError(f'{place}: needs "file", the name of an ONNX file beside it; correct it')
    _known_keys(place, entry, [known.name for known in fields(Stage)])
    if Path(entry["file"]).name != entry["file"]:
        raise ValueError(f"{place}: file is {entry['file']!r}; give the name of a file beside {DESCRIPTION_FILE}")
    inputs, window = entry.get("inputs", {}), entry.get("window")
    if not isinstance(inputs, dict):
        raise ValueError(f"{place}: inputs is {inputs!r}; give {{GRAPH INPUT: TENSOR}}")
    if window is not None:
        if not isinstance(window, dict) or set(window) != {"size", "step"}:
            raise ValueError(f'{place}: window is {window!r}; give {{"size": ..., "step": ...}}')
        window = (whole_number(f"{place}: window.size", window["size"]), whole_number("step", window["step"]))
    for key in ("mean", "std"):
        numbers = entry.get(key, 1.0)
        listed = numbers if isinstance(numbers, list) and numbers else [numbers]
        are_numbers = all(isinstance(number, int | float) and not isinstance(number, bool) for number in listed)
        if not are_numbers or (key == "std" and 0 in listed):
            raise ValueError(f"{place}: {key} is {numbers!r}; give a number, or a list of one per channel (std: not 0)")
    return Stage(**{**entry, "window": window})


def _known_keys(place: str, content: Mapping[str, Any], known: Sequence[str]) -> None:
    for key in content:
        if key not in known:
            raise ValueError(f"{place}: unknown key {key!r}{nearest_hint(key, known)}")
