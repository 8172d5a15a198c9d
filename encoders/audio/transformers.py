"""Audio encoders of the library transformers: any hub id or local folder of the kinds below."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from encoders.audio.masked import shortest_input
from encoders.audio.spectrograms import AstSpectrogram, ClapSpectrogram, Spectrogram, WhisperSpectrogram
from encoders.audio.torchaudio import MAX_SECONDS
from encoders.audio.transformers_spectrogram import SpectrogramEncoder
from encoders.audio.transformers_speech import SpeechEncoder
from encoders.base import Encoder
from encoders.info import Weights
from encoders.preprocessing.audio import AudioPreprocessor
from encoders.transformers.loading import (
    find_checkpoint,
    load_model,
    make_config,
    note_weights,
    read_config,
    read_features,
    read_part,
    tower_config,
)
from encoders.weights.hub import FEATURE_FILES, locate

SPEECH_MODELS = {"wav2vec2": "Wav2Vec2Model", "hubert": "HubertModel", "wavlm": "WavLMModel"}
"""XLS-R is a wav2vec2."""
SPECTROGRAM_MODELS: dict[str, tuple[str, type[Spectrogram], str]] = {
    "audio-spectrogram-transformer": ("ASTModel", AstSpectrogram, ""),
    "whisper": ("models.whisper.modeling_whisper.WhisperEncoder", WhisperSpectrogram, "encoder."),
    "clap_audio_model": ("ClapAudioModel", ClapSpectrogram, "audio_model."),
}
"""Kind -> class of transformers, its input, and how its names begin in a file that holds more."""
SPEECH_DEFAULTS = {"sampling_rate": 16000, "do_normalize": True}
_MIN_SECONDS = 0.1
_ADVICE = "give an audio encoder, for example transformers/facebook/wav2vec2-base"


def transformers_audio(
    *,
    name: str,
    weights: Weights = None,
    tower: str | None = None,
    config: Mapping[str, Any] | None = None,
    features: Mapping[str, Any] | None = None,
    max_seconds: float | None = None,
) -> Encoder:
    """An audio encoder by hub id or local folder: ``transformers/<id or folder>``. Never runs a model's own code.

    Args:
        weights: "pretrained" (those of that id or folder); None; a state_dict file; or another id or folder, which
            then brings its config and feature extractor, too.
        tower: "audio" where the model has a text tower, too, as CLAP has.
        config: of the architecture, instead of the folder's ``config.json``.
        features: settings of the feature extractor, instead of the folder's ``preprocessor_config.json``.
        max_seconds: what comes later in a clip is cut off; None is 15, or what a model of fixed length takes.

    Raises:
        FileNotFoundError: if the model is neither here nor can be fetched, or does not say how its input is made.
        ValueError: if it is no audio encoder, or weights, config, features or max_seconds do not suit it.
    """
    source, files, licence = find_checkpoint(name, weights)
    settings = config if config is not None else read_config(locate(source, with_weights=False))
    if tower is not None:
        settings = tower_config(settings, tower)
    if features is None:
        folder = locate(source, with_weights=False)
        features = read_features(folder, "feature_extractor")
        if features is None:
            raise FileNotFoundError(
                f"{folder} holds no {FEATURE_FILES[0]}, which says how the model's input is made; copy it from where "
                "the model comes from, or give features, for example {'sampling_rate': 16000, 'do_normalize': true}"
            )
    model, missing = _build(name, settings, files)
    encoder = _wrap(name, model, features, max_seconds)
    note_weights(encoder, name, weights, files, licence, missing=missing)
    return encoder


def _build(name: str, settings: Mapping[str, Any], files: list[Path]) -> tuple[Any, set[str]]:
    import transformers

    config = make_config(name, settings, _ADVICE)
    kind = config.model_type
    if kind in SPEECH_MODELS:
        path, part = SPEECH_MODELS[kind], ""
    elif kind in SPECTROGRAM_MODELS:
        path, _, part = SPECTROGRAM_MODELS[kind]
    else:
        raise ValueError(f"{name} is a {kind} model, which is no audio encoder that is known here; {_ADVICE}")
    model_class: Any = transformers
    for attribute in path.split("."):
        model_class = getattr(model_class, attribute)
    state = read_part(files, part) if files else None
    return load_model(name, model_class, config, state, source=str(files[0]) if files else "")


def _wrap(name: str, model: Any, features: Mapping[str, Any], max_seconds: float | None) -> Encoder:
    """The encoder around a model of transformers."""
    config = model.config
    if config.model_type in SPEECH_MODELS:
        _check_extractor(name, features, "Wav2Vec2FeatureExtractor")
        settings = {key: features.get(key, default) for key, default in SPEECH_DEFAULTS.items()}
        rate, longest = settings["sampling_rate"], MAX_SECONDS if max_seconds is None else max_seconds
        shortest = max(_MIN_SECONDS, shortest_input(model.feature_extractor.conv_layers) / rate)
        preprocessor = AudioPreprocessor(rate, max_seconds=longest, min_seconds=shortest)
        return SpeechEncoder(model, preprocessor, settings=settings)
    _, kind, _ = SPECTROGRAM_MODELS[config.model_type]
    _check_extractor(name, features, kind.EXTRACTOR)
    spectrogram = kind(features, config)
    limit = spectrogram.max_samples / spectrogram.sample_rate
    if max_seconds is not None and max_seconds > limit:
        raise ValueError(
            f"max_seconds is {max_seconds}, but {name} reads {limit:g} s; give at most that, and cut longer clips"
        )
    longest = limit if max_seconds is None else max_seconds
    preprocessor = AudioPreprocessor(spectrogram.sample_rate, max_seconds=longest, min_seconds=_MIN_SECONDS)
    return SpectrogramEncoder(model, spectrogram, preprocessor)


def _check_extractor(name: str, features: Mapping[str, Any], expected: str) -> None:
    given = features.get("feature_extractor_type", expected)
    if given != expected:
        raise ValueError(f"{name} has a {given}, but the model needs a {expected}; take both files from one model")
