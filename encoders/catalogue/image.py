"""Image encoders of torchvision."""

from encoders.registry import EncoderInfo

RESNET = "https://arxiv.org/abs/1512.03385"
RESNEXT = "https://arxiv.org/abs/1611.05431"
WIDE_RESNET = "https://arxiv.org/abs/1605.07146"

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


def entries() -> list[tuple[EncoderInfo, str]]:
    """One an architecture."""
    return [
        (
            EncoderInfo(f"torchvision/{name}", "image", width, "torchvision", "BSD-3-Clause", paper, has_weights=True),
            "encoders.image.torchvision:resnet",
        )
        for name, (width, paper) in RESNETS.items()
    ]
