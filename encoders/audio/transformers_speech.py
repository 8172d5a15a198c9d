"""wav2vec 2.0, HuBERT, WavLM and XLS-R as transformers builds them: models of the raw waveform."""

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from encoders.audio.masked import attention_bias, extract_frames, speech_groups
from encoders.audio.wavlm import relative_transformer
from encoders.base import Encoder, blank_tokens
from encoders.parameter_order import settle
from encoders.preprocessing.audio import AudioPreprocessor
from encoders.transformers.loading import config_to_json


class SpeechEncoder(Encoder):
    """A convolutional feature extractor and a transformer on the raw waveform; a token for every 20 ms.

    wav2vec 2.0 (Baevski et al., 2020, https://arxiv.org/abs/2006.11477), XLS-R (Babu et al., 2021,
    https://arxiv.org/abs/2111.09296), HuBERT (Hsu et al., 2021, https://arxiv.org/abs/2106.07447) and WavLM (Chen et
    al., 2021, https://arxiv.org/abs/2110.13900). As in ``encoders.audio.torchaudio``, padding changes nothing, no
    layer is dropped in training, and nothing is masked by chance: what stood for masked frames is removed.

    Args:
        model: of transformers.
        preprocessor: gives ``waveform`` and ``waveform_mask``, both ``[b s]``.
        settings: of the feature extractor: ``sampling_rate``, and ``do_normalize``, whether each record is brought
            to mean 0 and variance 1.

    Raises:
        ValueError: if the model has parts that are not run here.
    """

    model: Any
    preprocessor: AudioPreprocessor

    def __init__(self, model: Any, preprocessor: AudioPreprocessor, *, settings: Mapping[str, Any]) -> None:
        super().__init__()
        self.modality, self.preprocessor, self.settings = "audio", preprocessor, dict(settings)
        self.model = model
        unknown = [part for part in ("add_adapter", "conv_pos_batch_norm") if getattr(model.config, part, False)]
        if unknown:
            raise ValueError(f"a speech model with {unknown[0]} is not supported; give one without")
        self.embed_dim, _ = settle(model, lambda: blank_tokens(self))

    def forward(self, inputs: dict[str, Tensor]) -> tuple[Float[Tensor, "b l d"], Bool[Tensor, "b l"]]:
        """Tokens of the frames; real are those whose window lies in real samples."""
        epsilon = 1e-7 if self.settings["do_normalize"] else None
        features, real = extract_frames(self.model.feature_extractor.conv_layers, inputs, epsilon)
        projected = self.model.feature_projection(features)
        x = projected[0] if isinstance(projected, tuple) else projected  # all but HuBERT give the features, too
        return self._transform(torch.where(real[:, :, None], x, 0.0), real), real

    def _transform(self, x: Float[Tensor, "b l d"], real: Bool[Tensor, "b l"]) -> Float[Tensor, "b l d"]:
        """The library's encoder without its indexing by a mask, which a graph can only do by searching."""
        encoder, bias = self.model.encoder, attention_bias(real, x)
        x = x + encoder.pos_conv_embed(x)
        x = encoder.dropout(x if self._norm_first else encoder.layer_norm(x))
        if self.model.config.model_type == "wavlm":
            x = relative_transformer(encoder.layers, x, bias, norm_first=self._norm_first)
        else:
            for layer in encoder.layers:
                x = layer(x, attention_mask=bias)
        return encoder.layer_norm(x) if self._norm_first else x

    @property
    def _norm_first(self) -> bool:
        return self.model.config.do_stable_layer_norm

    def depth_groups(self) -> list[list[nn.Parameter]]:
        """Each convolution, the projection with the positions, each transformer layer; the last norm where it ends."""
        model = self.model
        convolutions = model.feature_extractor.conv_layers
        return speech_groups(convolutions, model.feature_projection, model.encoder, norm_last=self._norm_first)

    def architecture(self) -> dict[str, Any]:
        """The model's config and its input, so that neither its folder nor the hub is needed again."""
        return {
            "config": config_to_json(self.model),
            "features": self.settings,
            "max_seconds": self.preprocessor.max_seconds,
        }
