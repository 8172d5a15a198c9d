"""Speech encoders of torchaudio: wav2vec 2.0, HuBERT, WavLM and XLS-R, by the names of torchaudio's bundles."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from encoders.audio.masked import attention_bias, extract_frames, shortest_input, speech_groups
from encoders.audio.wavlm import relative_transformer
from encoders.base import Encoder, Provenance
from encoders.info import Weights
from encoders.preprocessing.audio import AudioPreprocessor
from encoders.weights.download import download
from encoders.weights.state import load_state

FAMILY = "torchaudio/"
FILES_AT = "https://download.pytorch.org/torchaudio/models/"
MAX_SECONDS = 15.0
"""wav2vec 2.0 was trained on crops of at most 15.6 s, https://arxiv.org/abs/2006.11477."""


class Wav2Vec2Encoder(Encoder):
    """A convolutional feature extractor and a transformer on the raw waveform; a token for every 20 ms.

    wav2vec 2.0 (Baevski et al., 2020, https://arxiv.org/abs/2006.11477), HuBERT, which differs in training only, and
    WavLM (Chen et al., 2021, https://arxiv.org/abs/2110.13900), whose attention knows relative positions. Modules
    have the names that torchaudio gives them, so that its state_dicts load as they are. Ours differs in what padding
    does, which is nothing: the waveform and the group norm of the first layer (of the "base" models) are normalised
    over a record's real samples, where torchaudio counts those of the whole batch. A record alone in its batch gets
    the same tokens from both. No layer is dropped in training, since each must get a gradient in each step.

    Args:
        model: a ``torchaudio.models.Wav2Vec2Model``, whose modules are taken over.
        preprocessor: gives ``waveform`` and ``waveform_mask``, both ``[b s]``.
        normalize_waveform: whether each record is brought to mean 0 and variance 1, as the model was trained.
        options: JSON arguments of ``wav2vec2`` that rebuild it.
    """

    def __init__(
        self, model: Any, preprocessor: AudioPreprocessor, *, normalize_waveform: bool, options: Mapping[str, Any]
    ) -> None:
        super().__init__()
        self.modality, self.preprocessor, self.arguments = "audio", preprocessor, dict(options)
        self.feature_extractor, self.encoder = model.feature_extractor, model.encoder
        self.encoder.transformer.layer_drop = -1.0  # dropped where a random number in [0, 1) is not above it
        self.normalize_waveform = normalize_waveform
        self.embed_dim = self.encoder.feature_projection.projection.out_features
        self.is_wavlm = hasattr(self.encoder.transformer.layers[0].attention, "rel_attn_embed")

    def forward(self, inputs: dict[str, Tensor]) -> tuple[Float[Tensor, "b l d"], Bool[Tensor, "b l"]]:
        """Tokens of the frames; real are those whose window lies in real samples."""
        epsilon = 1e-5 if self.normalize_waveform else None
        features, real = extract_frames(self.feature_extractor.conv_layers, inputs, epsilon)
        x = torch.where(real[:, :, None], self.encoder.feature_projection(features), 0.0)  # [b l d]
        bias = attention_bias(real, x)
        if not self.is_wavlm:
            return self.encoder.transformer(x, attention_mask=bias), real
        transformer = self.encoder.transformer
        x = transformer._preprocess(x)
        x = relative_transformer(transformer.layers, x, bias, norm_first=transformer.layers[0].layer_norm_first)
        return x if transformer.layer_norm_first else transformer.layer_norm(x), real

    def depth_groups(self) -> list[list[nn.Parameter]]:
        """Each convolution, the projection with the positions, each transformer layer; the last norm where it ends."""
        transformer, projection = self.encoder.transformer, self.encoder.feature_projection
        norm_last = not transformer.layer_norm_first
        return speech_groups(self.feature_extractor.conv_layers, projection, transformer, norm_last=norm_last)


def wav2vec2(
    *, name: str, weights: Weights = None, max_seconds: float = MAX_SECONDS, model: Mapping[str, Any] | None = None
) -> Wav2Vec2Encoder:
    """A speech encoder by its registered name, e.g. ``torchaudio/wav2vec2_base``.

    Args:
        weights: "pretrained" (those of the bundle), a state_dict file, or None.
        max_seconds: what comes later is cut off.
        model: arguments of ``torchaudio.models.wav2vec2_model`` (or ``wavlm_model``) that differ from the bundle's.

    Raises:
        ImportError: if torchaudio cannot be used beside this torch.
        ValueError: if the weights do not fit, or an argument is unknown.
        FileNotFoundError: if the weights are not there.
    """
    torchaudio = import_torchaudio()
    bundle = getattr(torchaudio.pipelines, name.removeprefix(FAMILY).upper())
    # the bundle's own fields: its public way to the architecture downloads the weights
    arguments = {**bundle._params, **(model or {}), "aux_num_out": None}
    unknown = [key for key in arguments if key not in bundle._params]
    if unknown:
        raise ValueError(f"model has no argument {', '.join(unknown)}; there are {', '.join(bundle._params)}")
    build = torchaudio.models.wavlm_model if bundle._model_type == "WavLM" else torchaudio.models.wav2vec2_model
    built = build(**arguments)
    rate = int(bundle.sample_rate)
    shortest = max(0.1, shortest_input(built.feature_extractor.conv_layers) / rate)
    preprocessor = AudioPreprocessor(rate, max_seconds=max_seconds, min_seconds=shortest)
    encoder = Wav2Vec2Encoder(
        built,
        preprocessor,
        normalize_waveform=bundle._normalize_waveform,
        options={"max_seconds": max_seconds, "model": json.loads(json.dumps(arguments))},
    )
    if weights is not None:
        path = download(weights_url(name), name) if weights == "pretrained" else Path(weights)
        encoder.provenance = Provenance(str(weights), load_state(encoder, path, ignore=("aux.",)))
    return encoder


def weights_url(name: str) -> str:
    """URL of the weights of a registered name."""
    return FILES_AT + str(getattr(import_torchaudio().pipelines, name.removeprefix(FAMILY).upper())._path)


def import_torchaudio() -> Any:
    """torchaudio, or one line that says why not.

    Raises:
        ModuleNotFoundError: if it is not installed.
        ImportError: if it was built for another torch.
    """
    try:
        import torchaudio.models
        import torchaudio.pipelines
    except ModuleNotFoundError:
        raise
    except (ImportError, RuntimeError, OSError) as error:
        raise ImportError(
            f"torchaudio cannot be used beside torch {torch.__version__} ({error}); run: pip install "
            "'multimodal-transfer[train]', whose torch is older than 2.15"
        ) from error
    return torchaudio
