"""Encoders of a job, and what reads and augments their inputs."""

from collections.abc import Mapping
from pathlib import Path

from encoders import create_encoder
from encoders.base import Encoder
from encoders.registry import is_registered
from multimodal.config import ConfigError, Input, Job, errors_of
from multimodal.config.pair_rules import evaluation_views
from multimodal.data.augment import Augmentation
from multimodal.features.views import Views
from multimodal.records import InputReader


def build_encoders(inputs: Mapping[str, Input], base: Path) -> dict[str, Encoder]:
    """One encoder per input, shared where the input says so.

    Args:
        base: folder that relative weights and model folders start from.

    Raises:
        ConfigError: if an encoder's modality is not the one that was given, or not that of the input's augmentations.
    """
    own = {name: build_encoder(name, entry, base) for name, entry in inputs.items() if entry.encoder is not None}
    encoders = {name: own[name if entry.share is None else entry.share] for name, entry in inputs.items()}
    for name, entry in inputs.items():
        if entry.modality not in (None, encoders[name].modality):
            raise ConfigError(
                f"inputs.{name}: modality is {entry.modality!r}, but its encoder {encoders[name].name} reads "
                f"{encoders[name].modality!r}; leave modality out, or take another encoder"
            )
        with errors_of(f"inputs.{name}."):
            entry.augment.check_modality(encoders[name].modality)
    return encoders


def build_encoder(name: str, entry: Input, base: Path) -> Encoder:
    """The encoder of an input of its own.

    Raises:
        ConfigError: if it cannot be built; begins with the input's place in the config.
    """
    assert entry.encoder is not None
    path, weights = encoder_path(entry.encoder, base), full_weights(entry.weights, base)
    encoder_name = entry.encoder if path is None else f"{entry.encoder.partition('/')[0]}/{path}"
    try:
        return create_encoder(encoder_name, weights=... if weights == "default" else weights, **entry.options)
    except (LookupError, ValueError, TypeError, OSError) as error:
        message = error.args[0] if isinstance(error, LookupError) else error  # a LookupError shows its text quoted
        raise ConfigError(f"inputs.{name}: {message}") from error


def encoder_path(name: str, base: Path) -> Path | None:
    """The folder or file, seen from ``base``, that an encoder's name ends in. `compact/audio` is never ./audio."""
    family, _, path = name.partition("/")
    if not path or family == "timm" or is_registered(name):
        return None  # a model's name
    is_path = (base / path).is_dir() or (family in ("wordvectors", "onnx") and (base / path).is_file())
    return (base / path).absolute() if is_path else None


def weights_path(weights: str | None, base: Path) -> Path | None:
    """The file or folder, seen from ``base``, that weights are read from; None where they are no path."""
    if weights is None or weights in ("default", "pretrained") or not (base / weights).exists():
        return None
    return (base / weights).absolute()


def full_weights(weights: str | None, base: Path) -> str | None:
    """The weights; a path seen from ``base`` is written in full."""
    path = weights_path(weights, base)
    return weights if path is None else str(path)


def has_random_weights(encoder: Encoder) -> bool:
    """True for an encoder that knows nothing yet."""
    return encoder.provenance.weights == "random"


def build_readers(job: Job, encoders: Mapping[str, Encoder]) -> dict[str, InputReader]:
    """One reader per input: its column and its encoder's preprocessor."""
    return {name: InputReader(name, job.input_column(name), encoders[name].preprocessor) for name in job.inputs}


def build_augmentations(job: Job, encoders: Mapping[str, Encoder], *, training: bool = True) -> dict[str, Augmentation]:
    """One augmentation per input that has it enabled; outside training, for views of one value alone."""
    augmented = set(job.inputs) if training else evaluation_views(job)
    return {
        name: Augmentation(encoders[name].modality, entry.augment, job.train.seed, name)
        for name, entry in job.inputs.items()
        if entry.augment.enabled and name in augmented
    }


def build_views(job: Job, encoders: Mapping[str, Encoder]) -> dict[str, Views]:
    """The views of each input's training values, for where its encoder is frozen."""
    count, seed = job.transfer.views, job.train.seed
    return {
        name: Views(
            count, Augmentation(encoders[name].modality, entry.augment, seed) if entry.augment.enabled else None
        )
        for name, entry in job.inputs.items()
    }
