"""Image encoders of torchvision and timm."""

from encoders.registry import EncoderInfo

ARXIV = "https://arxiv.org/abs/"

TORCHVISION: dict[str, dict[str, int]] = {
    "https://papers.nips.cc/paper/4824-imagenet-classification-with-deep-convolutional-neural-networks": {
        "alexnet": 256,
    },
    ARXIV + "1409.1556": {
        **{f"vgg{depth}": 512 for depth in (11, 13, 16, 19)},
        **{f"vgg{depth}_bn": 512 for depth in (11, 13, 16, 19)},
    },
    ARXIV + "1409.4842": {"googlenet": 1024},
    ARXIV + "1512.00567": {"inception_v3": 2048},
    ARXIV + "1512.03385": {"resnet18": 512, "resnet34": 512, "resnet50": 2048, "resnet101": 2048, "resnet152": 2048},
    ARXIV + "1611.05431": {"resnext50_32x4d": 2048, "resnext101_32x8d": 2048, "resnext101_64x4d": 2048},
    ARXIV + "1605.07146": {"wide_resnet50_2": 2048, "wide_resnet101_2": 2048},
    ARXIV + "1608.06993": {"densenet121": 1024, "densenet161": 2208, "densenet169": 1664, "densenet201": 1920},
    ARXIV + "1602.07360": {"squeezenet1_0": 512, "squeezenet1_1": 512},
    ARXIV + "1801.04381": {"mobilenet_v2": 1280},
    ARXIV + "1905.02244": {"mobilenet_v3_small": 576, "mobilenet_v3_large": 960},
    ARXIV + "1807.11626": {"mnasnet0_5": 1280, "mnasnet0_75": 1280, "mnasnet1_0": 1280, "mnasnet1_3": 1280},
    ARXIV + "1807.11164": {
        "shufflenet_v2_x0_5": 1024,
        "shufflenet_v2_x1_0": 1024,
        "shufflenet_v2_x1_5": 1024,
        "shufflenet_v2_x2_0": 2048,
    },
    ARXIV + "1905.11946": {
        "efficientnet_b0": 1280,
        "efficientnet_b1": 1280,
        "efficientnet_b2": 1408,
        "efficientnet_b3": 1536,
        "efficientnet_b4": 1792,
        "efficientnet_b5": 2048,
        "efficientnet_b6": 2304,
        "efficientnet_b7": 2560,
    },
    ARXIV + "2104.00298": {"efficientnet_v2_s": 1280, "efficientnet_v2_m": 1280, "efficientnet_v2_l": 1280},
    ARXIV + "2003.13678": {
        "regnet_x_400mf": 400,
        "regnet_x_800mf": 672,
        "regnet_x_1_6gf": 912,
        "regnet_x_3_2gf": 1008,
        "regnet_x_8gf": 1920,
        "regnet_x_16gf": 2048,
        "regnet_x_32gf": 2520,
        "regnet_y_400mf": 440,
        "regnet_y_800mf": 784,
        "regnet_y_1_6gf": 888,
        "regnet_y_3_2gf": 1512,
        "regnet_y_8gf": 2016,
        "regnet_y_16gf": 3024,
        "regnet_y_32gf": 3712,
        "regnet_y_128gf": 7392,
    },
    ARXIV + "2201.03545": {"convnext_tiny": 768, "convnext_small": 768, "convnext_base": 1024, "convnext_large": 1536},
    ARXIV + "2010.11929": {"vit_b_16": 768, "vit_b_32": 768, "vit_l_16": 1024, "vit_l_32": 1024, "vit_h_14": 1280},
    ARXIV + "2103.14030": {"swin_t": 768, "swin_s": 768, "swin_b": 1024},
    ARXIV + "2111.09883": {"swin_v2_t": 768, "swin_v2_s": 768, "swin_v2_b": 1024},
    ARXIV + "2204.01697": {"maxvit_t": 512},
}
"""Paper -> torchvision's names of its architectures, with their widths."""

NON_COMMERCIAL = ("regnet_y_128gf", "vit_h_14")
"""Whose best weights are SWAG's, https://github.com/facebookresearch/SWAG/blob/main/LICENSE."""


def entries() -> list[tuple[EncoderInfo, str]]:
    """One an architecture of torchvision, and one for all of timm."""
    found = [
        _torchvision(name, width, paper) for paper, models in TORCHVISION.items() for name, width in models.items()
    ]
    source = "timm (any model's name)"
    timm = EncoderInfo("timm/*", "image", source=source, has_weights=True)
    return [*found, (timm, "encoders.image.timm:timm_encoder")]


def _torchvision(name: str, width: int, paper: str) -> tuple[EncoderInfo, str]:
    licence = "CC-BY-NC-4.0" if name in NON_COMMERCIAL else "BSD-3-Clause"
    info = EncoderInfo(f"torchvision/{name}", "image", width, "torchvision", licence, paper, has_weights=True)
    return info, "encoders.image.torchvision:torchvision_encoder"
