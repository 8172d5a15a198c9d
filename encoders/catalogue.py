"""What is built in, without importing any of it. Never imports torch."""

from encoders.registry import EncoderInfo

RESNET = "https://arxiv.org/abs/1512.03385"
RESNEXT = "https://arxiv.org/abs/1611.05431"
WIDE_RESNET = "https://arxiv.org/abs/1605.07146"
WAV2VEC2 = "https://arxiv.org/abs/2006.11477"
XLSR53 = "https://arxiv.org/abs/2006.13979"
XLSR = "https://arxiv.org/abs/2111.09296"
HUBERT = "https://arxiv.org/abs/2106.07447"

RESNETS: dict[str, tuple[int, str]] = {
    "resnet18": (512, RESNET),
    "resnet34": (512, RESNET),
    "resnet50": (2048, RESNET),
    "resnet101": (2048, RESNET),
    "resnet152": (2048, RESNET),
    "resnext50_32x4d": (2048, RESNEXT),
    "resnext101_32x8d": (2048, RESNEXT),
    "resnext101_64x4d": (2048, RESNEXT),
    "wide_resnet50_2": (2048, WIDE_RESNET),
    "wide_resnet101_2": (2048, WIDE_RESNET),
}
"""torchvision's name -> width, paper."""

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
}
"""torchaudio's name of the bundle, in small letters -> width, paper."""


def entries() -> list[tuple[EncoderInfo, str]]:
    """Every built-in encoder, and where its builder is (``module:function``).

    >>> {info.modality for info, _ in entries()} == {"image", "text", "audio"}
    True
    """
    return [*_compact(), *_resnets(), _text(), *_speech_models()]


def _compact() -> list[tuple[EncoderInfo, str]]:
    builders = {
        "image": (160, "encoders.compact.image:CompactImage"),
        "text": (192, "encoders.compact.text:CompactText"),
        "audio": (192, "encoders.compact.audio:CompactAudio"),
    }
    return [
        (EncoderInfo(f"compact/{modality}", modality, width, "multimodal-transfer", "none"), builder)
        for modality, (width, builder) in builders.items()
    ]


def _resnets() -> list[tuple[EncoderInfo, str]]:
    return [
        (
            EncoderInfo(f"torchvision/{name}", "image", width, "torchvision", "BSD-3-Clause", paper, has_weights=True),
            "encoders.image:resnet",
        )
        for name, (width, paper) in RESNETS.items()
    ]


def _text() -> tuple[EncoderInfo, str]:
    info = EncoderInfo("transformers/*", "text", source="transformers (any hub id or local folder)", has_weights=True)
    return info, "encoders.text:transformers_text"


def _speech_models() -> list[tuple[EncoderInfo, str]]:
    return [
        (
            EncoderInfo(f"torchaudio/{name}", "audio", width, "torchaudio", "MIT", paper, has_weights=True),
            "encoders.audio:wav2vec2",
        )
        for name, (width, paper) in SPEECH_MODELS.items()
    ]
