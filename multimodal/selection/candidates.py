"""The encoders that may read an input: those that are named, or those whose weights are on this machine."""

import json
from collections.abc import Sequence
from pathlib import Path

from encoders import find_encoder, list_encoders
from encoders.local import has_local_weights
from encoders.weights.source_run import MODEL_FILE
from multimodal.builders.encoders import full_weights
from multimodal.config import Candidate, ConfigError, Input
from multimodal.plugins import can_train


def find_candidates(name: str, entry: Input, base: Path, named: Sequence[str] = ()) -> list[Candidate]:
    """Candidates for an input: those that the command line names, else its ``candidates``, else what there is.

    What there is: the input's own encoder, and every registered one of its modality whose weights need no network.

    Args:
        base: folder that runs in the config start from; those on the command line start from the working directory.
        named: short forms of ``Candidate``.

    Raises:
        ConfigError: if a name cannot be used, or one is given twice.
    """
    if named:
        found = [_from_run(name, entry, _parse(text), Path.cwd()) for text in named]
    elif entry.candidates:
        found = [_from_run(name, entry, candidate, base) for candidate in entry.candidates]
    else:
        assert entry.encoder is not None
        own = Candidate(encoder=entry.encoder, weights=entry.weights, options=entry.options)
        others = [info.name for info in list_encoders(input_modality(entry)) if has_local_weights(info)]
        same = own.encoder if own.weights in ("default", "pretrained") else None
        found = [own, *(Candidate(encoder=other) for other in others if other != same)]
    labels = [candidate.label for candidate in found]
    twice = {label for label in labels if labels.count(label) > 1}
    if twice:
        raise ConfigError(f"inputs.{name}: the candidate {min(twice)!r} is given twice; name each once")
    return found


def input_modality(entry: Input) -> str:
    """That of an input with an encoder of its own, as its registered name or the config says it."""
    assert entry.encoder is not None
    return entry.modality if entry.modality is not None else find_encoder(entry.encoder).modality


def with_candidate(entry: Input, chosen: Candidate) -> Input:
    """The input with a candidate in the place of its encoder."""
    update = {"encoder": chosen.encoder, "weights": chosen.weights, "options": chosen.options}
    frozen = entry.frozen or not can_train(chosen.encoder)
    return entry.model_copy(update={**update, "frozen": frozen})


def _parse(text: str) -> Candidate:
    try:
        return Candidate.model_validate(text)
    except ValueError as error:
        raise ConfigError(
            f"--encoder {text!r}: names no encoder; give NAME, NAME@random, NAME@WEIGHTS or RUN"
        ) from error


def _from_run(name: str, entry: Input, candidate: Candidate, base: Path) -> Candidate:
    """A run's folder becomes the encoder of this modality that the run has; others stay, their paths absolute."""
    folder = base / candidate.encoder
    if not (folder / MODEL_FILE).is_file():
        return candidate.model_copy(update={"weights": full_weights(candidate.weights, base)})
    inputs = json.loads((folder / MODEL_FILE).read_text(encoding="utf-8"))["inputs"]
    modality = input_modality(entry)
    names = {described["encoder"] for described in inputs.values()}
    own = {encoder for encoder in names if find_encoder(encoder).modality == modality}
    if len(own) != 1:
        raise ConfigError(
            f"inputs.{name}: the run {candidate.encoder} has {len(own)} encoders that read {modality} "
            f"({', '.join(sorted(own)) or 'none'}); give ENCODER@{candidate.encoder} with the one that is meant"
        )
    return Candidate(encoder=own.pop(), weights=str(folder.absolute()))
