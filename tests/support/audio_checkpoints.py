"""Small audio checkpoints of transformers, with their feature extractors, written by the tests that read them."""

from pathlib import Path
from typing import Any

import torch
from support.checkpoints import enlarge

_SPEECH: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "conv_dim": (16, 16, 16, 16, 16),
    "conv_kernel": (10, 3, 3, 2, 2),
    "conv_stride": (5, 2, 2, 2, 2),
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
    "vocab_size": 12,
}
_LARGE: dict[str, Any] = {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}
_SECOND = 16000

AUDIO_MODELS: dict[str, tuple[str, dict[str, Any], str, dict[str, Any]]] = {
    "wav2vec2": ("Wav2Vec2", _SPEECH, "Wav2Vec2FeatureExtractor", {}),
    "wav2vec2-large": ("Wav2Vec2", {**_SPEECH, **_LARGE}, "Wav2Vec2FeatureExtractor", {}),
    "hubert": ("Hubert", _SPEECH, "Wav2Vec2FeatureExtractor", {"do_normalize": False}),
    "hubert-large": ("Hubert", {**_SPEECH, **_LARGE}, "Wav2Vec2FeatureExtractor", {}),
    "wavlm": ("WavLM", _SPEECH, "Wav2Vec2FeatureExtractor", {"do_normalize": False}),
    "wavlm-large": ("WavLM", {**_SPEECH, **_LARGE}, "Wav2Vec2FeatureExtractor", {}),
    "ast": (
        "AST",
        {
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "intermediate_size": 48,
            "max_length": 126,
            "num_mel_bins": 32,
        },
        "ASTFeatureExtractor",
        {"max_length": 126, "num_mel_bins": 32},
    ),
    "whisper": (
        "Whisper",
        {
            "d_model": 32,
            "encoder_layers": 2,
            "decoder_layers": 1,
            "encoder_attention_heads": 4,
            "decoder_attention_heads": 4,
            "encoder_ffn_dim": 48,
            "decoder_ffn_dim": 48,
            "max_source_positions": 50,
            "vocab_size": 12,
            "pad_token_id": 0,
            "bos_token_id": 1,
            "eos_token_id": 2,
            "decoder_start_token_id": 1,
            "num_mel_bins": 20,
        },
        "WhisperFeatureExtractor",
        {"feature_size": 20, "chunk_length": 1},
    ),
    "clap": (
        "ClapAudio",
        {
            "spec_size": 64,
            "num_mel_bins": 16,
            "window_size": 4,
            "patch_embeds_hidden_size": 16,
            "depths": [2, 2],
            "num_attention_heads": [2, 4],
            "hidden_size": 32,
        },
        "ClapFeatureExtractor",
        {
            "feature_size": 16,
            "sampling_rate": 16000,
            "hop_length": 80,
            "fft_window_size": 512,
            "max_length_s": 1,
            "frequency_max": 8000,
            "truncation": "rand_trunc",
        },
    ),
}
"""Name -> transformers' name of the model, its config, its feature extractor, the settings of that."""


def audio_config(kind: str, **changes: Any) -> Any:
    """A config of transformers with two layers of dim 32."""
    import transformers

    prefix, tiny, _, _ = AUDIO_MODELS[kind]
    return getattr(transformers, f"{prefix}Config")(**{**tiny, **changes})


def feature_extractor(kind: str, **changes: Any) -> Any:
    """What goes with it, of transformers."""
    import transformers

    _, _, name, settings = AUDIO_MODELS[kind]
    return getattr(transformers, name)(**{**settings, **changes})


def write_audio_model(folder: Path, kind: str, *, seed: int = 0, head: str = "", **changes: Any) -> Any:
    """A folder as ``save_pretrained`` writes it; returns the model of transformers.

    Args:
        head: end of the class of a model with more than the encoder, e.g. "ForCTC".
        **changes: of the config.
    """
    import transformers

    torch.manual_seed(seed)
    model_class = getattr(transformers, AUDIO_MODELS[kind][0] + (head or "Model"))
    model = model_class(audio_config(kind, **changes)).eval()
    enlarge(model, 2.0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.requires_grad and ("token" in name or "position" in name):
                parameter.normal_()  # AST begins with zeros
    model.save_pretrained(folder)
    feature_extractor(kind).save_pretrained(folder)
    return model
