"""Speech encoders of torchaudio."""

from encoders.registry import EncoderInfo

WAV2VEC2 = "https://arxiv.org/abs/2006.11477"
XLSR53 = "https://arxiv.org/abs/2006.13979"
XLSR = "https://arxiv.org/abs/2111.09296"
HUBERT = "https://arxiv.org/abs/2106.07447"
WAVLM = "https://arxiv.org/abs/2110.13900"

SPEECH_MODELS: dict[str, tuple[int, str]] = {
    "wav2vec2_base": (768, WAV2VEC2),
    "wav2vec2_large": (1024, WAV2VEC2),
    "wav2vec2_large_lv60k": (1024, WAV2VEC2),
    "wav2vec2_asr_base_10m": (768, WAV2VEC2),
    "wav2vec2_asr_base_100h": (768, WAV2VEC2),
    "wav2vec2_asr_base_960h": (768, WAV2VEC2),
    "wav2vec2_asr_large_10m": (1024, WAV2VEC2),
    "wav2vec2_asr_large_100h": (1024, WAV2VEC2),
    "wav2vec2_asr_large_960h": (1024, WAV2VEC2),
    "wav2vec2_asr_large_lv60k_10m": (1024, WAV2VEC2),
    "wav2vec2_asr_large_lv60k_100h": (1024, WAV2VEC2),
    "wav2vec2_asr_large_lv60k_960h": (1024, WAV2VEC2),
    "wav2vec2_xlsr53": (1024, XLSR53),
    "wav2vec2_xlsr_300m": (1024, XLSR),
    "wav2vec2_xlsr_1b": (1280, XLSR),
    "wav2vec2_xlsr_2b": (1920, XLSR),
    "hubert_base": (768, HUBERT),
    "hubert_large": (1024, HUBERT),
    "hubert_xlarge": (1280, HUBERT),
    "hubert_asr_large": (1024, HUBERT),
    "hubert_asr_xlarge": (1280, HUBERT),
    "wavlm_base": (768, WAVLM),
    "wavlm_base_plus": (768, WAVLM),
    "wavlm_large": (1024, WAVLM),
}
"""torchaudio's name of the bundle, in small letters -> width, paper."""


def entries() -> list[tuple[EncoderInfo, str]]:
    """One a pipeline."""
    return [
        (
            EncoderInfo(f"torchaudio/{name}", "audio", width, "torchaudio", "MIT", paper, has_weights=True),
            "encoders.audio.torchaudio:wav2vec2",
        )
        for name, (width, paper) in SPEECH_MODELS.items()
    ]
