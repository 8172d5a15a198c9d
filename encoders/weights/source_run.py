"""An encoder inside the folder of an earlier training run, so that any run can be a source task."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

MODEL_FILE, WEIGHTS_FILE, INPUTS = "model.json", "model.safetensors", "inputs"
FORMAT = 1


@dataclass(frozen=True)
class SourceRun:
    """An encoder in the folder of an earlier run."""

    folder: Path
    input: str
    """Input of that run whose encoder it is."""
    kept_as: str
    """Name in the weights file: an input's, in upper case where torch reserves it ("VALUES")."""
    arguments: dict[str, Any]
    """Rebuild the architecture."""
    licence: str

    @property
    def weights_file(self) -> Path:
        """Weights of the whole model."""
        return self.folder / WEIGHTS_FILE

    @property
    def prefix(self) -> str:
        """Beginning of this encoder's names in the weights file."""
        return f"encoders.{self.kept_as}."

    @classmethod
    def find(cls, weights: str | Path | None, name: str) -> "SourceRun | None":
        """The run's encoder of that registered name; None if ``weights`` is no folder of a run.

        Args:
            weights: RUN, or RUN/inputs/INPUT where the run has several encoders of that name.

        Raises:
            FileNotFoundError: if the run is not finished.
            ValueError: if the run has no encoder of that name, or several that differ.
        """
        if weights is None or weights == "pretrained":
            return None
        path = Path(weights)
        if (path / MODEL_FILE).is_file():
            return cls._choose(path, name, wanted=None)
        for place in (path, path.resolve()):  # also a link to RUN/inputs/INPUT
            run = place.parent.parent
            if place.parent.name == INPUTS and (run / MODEL_FILE).is_file():
                return cls._choose(run, name, wanted=place.name)
        return None

    @classmethod
    def _choose(cls, folder: Path, name: str, *, wanted: str | None) -> "SourceRun":
        inputs = _read_inputs(folder)
        names = list(inputs) if wanted is None else [wanted]
        if wanted is not None and wanted not in inputs:
            raise ValueError(f"{folder} has no input {wanted!r}, only {', '.join(inputs)}; give one of these")
        owners = {input if inputs[input]["shares"] is None else inputs[input]["shares"] for input in names}
        fitting = [owner for owner in inputs if owner in owners and _is_same(inputs[owner]["encoder"], name)]
        if not fitting:
            has = ", ".join(f"{inputs[owner]['encoder']} (input {owner})" for owner in inputs if owner in owners)
            raise ValueError(f"{folder} has no encoder {name}, only {has}; name one of these as the encoder")
        first = fitting[0]
        for other in fitting[1:]:
            if not _is_equal(folder, inputs, first, other):
                choices = ", ".join(str(folder / INPUTS / owner) for owner in fitting)
                raise ValueError(f"{folder} has {len(fitting)} encoders {name} that differ; give one of {choices}")
        entry = inputs[first]
        return cls(folder, first, entry["kept_as"], dict(entry["arguments"]), entry["provenance"]["licence"])


def _read_inputs(folder: Path) -> dict[str, Any]:
    if not (folder / WEIGHTS_FILE).is_file():
        raise FileNotFoundError(
            f"{folder} is a training run without {WEIGHTS_FILE}: it did not finish; resume it with `multimodal "
            "train ... --resume`, or give another run"
        )
    try:
        description = json.loads((folder / MODEL_FILE).read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{folder / MODEL_FILE}: is damaged ({error}); copy the run again") from error
    if not isinstance(description, dict) or description.get("format") != FORMAT:
        raise ValueError(f"{folder / MODEL_FILE}: is not of format {FORMAT}; train it again with this version")
    # runs of before this key keep every encoder under its own input's name
    return {name: {"kept_as": name, **entry} for name, entry in description["inputs"].items()}


def _is_same(one: str, other: str) -> bool:
    """True if two registered names mean the same; a folder or file may be written in several ways."""
    family, _, folder = one.partition("/")
    other_family, _, other_folder = other.partition("/")
    if one == other or family != other_family:
        return one == other
    return Path(folder).exists() and Path(other_folder).exists() and Path(folder).samefile(other_folder)


def _is_equal(folder: Path, inputs: dict[str, Any], one: str, other: str) -> bool:
    """True if two encoders of a run have the same architecture, preprocessor and weights."""
    if inputs[one]["arguments"] != inputs[other]["arguments"] or _files(folder, one) != _files(folder, other):
        return False
    ours_as, theirs_as = (f"encoders.{inputs[name]['kept_as']}." for name in (one, other))
    try:
        with safe_open(folder / WEIGHTS_FILE, framework="pt") as file:
            names = list(file.keys())
            ours = [name for name in names if name.startswith(ours_as)]
            theirs = [name.replace(ours_as, theirs_as, 1) for name in ours]
            return all(
                theirs[index] in names and bool((file.get_tensor(name) == file.get_tensor(theirs[index])).all())
                for index, name in enumerate(ours)
            )
    except SafetensorError as error:
        raise ValueError(f"{folder / WEIGHTS_FILE}: is damaged ({error}); copy the run again") from error


def _files(folder: Path, name: str) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((folder / INPUTS / name).iterdir())}
