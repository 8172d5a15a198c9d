"""The Audio Spectrogram Transformer, Whisper's encoder and CLAP's audio tower as transformers builds them."""

from functools import partial
from typing import Any

from jaxtyping import Bool, Float
from torch import Tensor, nn

from encoders.audio.spectrograms import Spectrogram
from encoders.base import Encoder, blank_tokens
from encoders.parameter_order import depth_order, settle
from encoders.preprocessing.audio import AudioPreprocessor
from encoders.transformers.loading import config_to_json


class SpectrogramEncoder(Encoder):
    """The last hidden states of a model that reads a spectrogram of one fixed length.

    Such models were trained without a mask: they see the silence that fills up a short clip, and always as much
    of it, so that the other records of a batch change nothing. The mask leaves out the tokens of that silence.

    Args:
        model: of transformers; turns the spectrogram into ``last_hidden_state``.
        spectrogram: that the model was trained on.
        preprocessor: gives ``waveform`` and ``waveform_mask``, both ``[b s]``, no longer than the spectrogram.
    """

    preprocessor: AudioPreprocessor

    def __init__(self, model: Any, spectrogram: Spectrogram, preprocessor: AudioPreprocessor) -> None:
        super().__init__()
        self.modality, self.preprocessor = "audio", preprocessor
        self.spectrogram, self.model = spectrogram, model
        if model.config.model_type == "whisper":
            model.layerdrop = 0.0  # each layer must get a gradient in each step
            sinusoids = model.embed_positions.weight.detach()  # never trained: no parameter
            del model.embed_positions.weight
            model.embed_positions.register_buffer("weight", sinusoids)
        probe = partial(blank_tokens, self)
        self.embed_dim, self._order = settle(model, probe, partial(depth_order, model, probe))

    def forward(self, inputs: dict[str, Tensor]) -> tuple[Float[Tensor, "b l d"], Bool[Tensor, "b l"]]:
        """Hidden states, those of a map band by band; which of them stand for real samples."""
        waveform, mask = inputs["waveform"], inputs["waveform_mask"]
        hidden = self.model(self.spectrogram(waveform, mask)).last_hidden_state
        tokens = hidden if hidden.ndim == 3 else hidden.flatten(2).transpose(1, 2)  # CLAP: [b d bands t]
        return tokens, self.spectrogram.real_tokens(mask, tokens)

    def depth_groups(self) -> list[list[nn.Parameter]]:
        """The stem, each layer (CLAP: each stage of layers), the last norm."""
        parameters = dict(self.model.named_parameters())
        return [[parameters[name] for name in group] for group in self._order]

    def architecture(self) -> dict[str, Any]:
        """The model's config and its input, so that neither its folder nor the hub is needed again."""
        return {
            "config": config_to_json(self.model),
            "features": self.spectrogram.settings,
            "max_seconds": self.preprocessor.max_seconds,
        }
