"""Speech encoders of torchaudio."""

from encoders.info import EncoderInfo

WAV2VEC2 = "https://arxiv.org/abs/2006.11477"
XLSR53 = "https://arxiv.org/abs/2006.13979"
XLSR = "https://arxiv.org/abs/2111.09296"
HUBERT = "https://arxiv.org/abs/2106.07447"
WAVLM = "https://arxiv.org/abs/2110.13900"

SPEECH_MODELS: dict[str, tuple[int, int, str]] = {
    "wav2vec2_base": (768, 94_370_944, WAV2VEC2),
    "wav2vec2_large": (1024, 315_427_968, WAV2VEC2),
    "wav2vec2_large_lv60k": (1024, 315_437_696, WAV2VEC2),
    "wav2vec2_asr_base_10m": (768, 94_370_944, WAV2VEC2),
    "wav2vec2_asr_base_100h": (768, 94_370_944, WAV2VEC2),
    "wav2vec2_asr_base_960h": (768, 94_370_944, WAV2VEC2),
    "wav2vec2_asr_large_10m": (1024, 315_427_968, WAV2VEC2),
    "wav2vec2_asr_large_100h": (1024, 315_427_968, WAV2VEC2),
    "wav2vec2_asr_large_960h": (1024, 315_427_968, WAV2VEC2),
    "wav2vec2_asr_large_lv60k_10m": (1024, 315_437_696, WAV2VEC2),
    "wav2vec2_asr_large_lv60k_100h": (1024, 315_437_696, WAV2VEC2),
    "wav2vec2_asr_large_lv60k_960h": (1024, 315_437_696, WAV2VEC2),
    "wav2vec2_xlsr53": (1024, 315_437_696, XLSR53),
    "wav2vec2_xlsr_300m": (1024, 315_437_696, XLSR),
    "wav2vec2_xlsr_1b": (1280, 962_496_128, XLSR),
    "wav2vec2_xlsr_2b": (1920, 2_159_257_728, XLSR),
    "hubert_base": (768, 94_370_944, HUBERT),
    "hubert_large": (1024, 315_434_112, HUBERT),
    "hubert_xlarge": (1280, 962_492_544, HUBERT),
    "hubert_asr_large": (1024, 315_434_112, HUBERT),
    "hubert_asr_xlarge": (1280, 962_492_544, HUBERT),
    "wavlm_base": (768, 94_381_168, WAVLM),
    "wavlm_base_plus": (768, 94_381_168, WAVLM),
    "wavlm_large": (1024, 315_452_096, WAVLM),
}
"""torchaudio's name of the bundle, in small letters -> width, parameters without what only pre-training used, paper."""


def entries() -> list[tuple[EncoderInfo, str]]:
    """One a pipeline."""
    return [
        (
            EncoderInfo(
                f"torchaudio/{name}",
                "audio",
                width,
                source="torchaudio",
                licence="MIT",
                paper=paper,
                has_weights=True,
                parameters=parameters,
            ),
            "encoders.audio.torchaudio:wav2vec2",
        )
        for name, (width, parameters, paper) in SPEECH_MODELS.items()
    ]
