"""Image encoders of torchvision and timm."""

from encoders.info import EncoderInfo

ARXIV = "https://arxiv.org/abs/"

TORCHVISION: dict[str, dict[str, tuple[int, int]]] = {
    "https://papers.nips.cc/paper/4824-imagenet-classification-with-deep-convolutional-neural-networks": {
        "alexnet": (256, 2_469_696),
    },
    ARXIV + "1409.1556": {
        "vgg11": (512, 9_220_480),
        "vgg13": (512, 9_404_992),
        "vgg16": (512, 14_714_688),
        "vgg19": (512, 20_024_384),
        "vgg11_bn": (512, 9_225_984),
        "vgg13_bn": (512, 9_410_880),
        "vgg16_bn": (512, 14_723_136),
        "vgg19_bn": (512, 20_035_392),
    },
    ARXIV + "1409.4842": {
        "googlenet": (1024, 5_599_904),
    },
    ARXIV + "1512.00567": {
        "inception_v3": (2048, 21_785_568),
    },
    ARXIV + "1512.03385": {
        "resnet18": (512, 11_176_512),
        "resnet34": (512, 21_284_672),
        "resnet50": (2048, 23_508_032),
        "resnet101": (2048, 42_500_160),
        "resnet152": (2048, 58_143_808),
    },
    ARXIV + "1611.05431": {
        "resnext50_32x4d": (2048, 22_979_904),
        "resnext101_32x8d": (2048, 86_742_336),
        "resnext101_64x4d": (2048, 81_406_272),
    },
    ARXIV + "1605.07146": {
        "wide_resnet50_2": (2048, 66_834_240),
        "wide_resnet101_2": (2048, 124_837_696),
    },
    ARXIV + "1608.06993": {
        "densenet121": (1024, 6_953_856),
        "densenet161": (2208, 26_472_000),
        "densenet169": (1664, 12_484_480),
        "densenet201": (1920, 18_092_928),
    },
    ARXIV + "1602.07360": {
        "squeezenet1_0": (512, 735_424),
        "squeezenet1_1": (512, 722_496),
    },
    ARXIV + "1801.04381": {
        "mobilenet_v2": (1280, 2_223_872),
    },
    ARXIV + "1905.02244": {
        "mobilenet_v3_small": (576, 927_008),
        "mobilenet_v3_large": (960, 2_971_952),
    },
    ARXIV + "1807.11626": {
        "mnasnet0_5": (1280, 937_512),
        "mnasnet0_75": (1280, 1_889_208),
        "mnasnet1_0": (1280, 3_102_312),
        "mnasnet1_3": (1280, 5_001_256),
    },
    ARXIV + "1807.11164": {
        "shufflenet_v2_x0_5": (1024, 341_792),
        "shufflenet_v2_x1_0": (1024, 1_253_604),
        "shufflenet_v2_x1_5": (1024, 2_478_624),
        "shufflenet_v2_x2_0": (2048, 5_344_996),
    },
    ARXIV + "1905.11946": {
        "efficientnet_b0": (1280, 4_007_548),
        "efficientnet_b1": (1280, 6_513_184),
        "efficientnet_b2": (1408, 7_700_994),
        "efficientnet_b3": (1536, 10_696_232),
        "efficientnet_b4": (1792, 17_548_616),
        "efficientnet_b5": (2048, 28_340_784),
        "efficientnet_b6": (2304, 40_735_704),
        "efficientnet_b7": (2560, 63_786_960),
    },
    ARXIV + "2104.00298": {
        "efficientnet_v2_s": (1280, 20_177_488),
        "efficientnet_v2_m": (1280, 52_858_356),
        "efficientnet_v2_l": (1280, 117_234_272),
    },
    ARXIV + "2003.13678": {
        "regnet_x_400mf": (400, 5_094_976),
        "regnet_x_800mf": (672, 6_586_656),
        "regnet_x_1_6gf": (912, 8_277_136),
        "regnet_x_3_2gf": (1008, 14_287_552),
        "regnet_x_8gf": (1920, 37_651_648),
        "regnet_x_16gf": (2048, 52_229_536),
        "regnet_x_32gf": (2520, 105_290_560),
        "regnet_y_400mf": (440, 3_903_144),
        "regnet_y_800mf": (784, 5_647_512),
        "regnet_y_1_6gf": (888, 10_313_430),
        "regnet_y_3_2gf": (1512, 17_923_338),
        "regnet_y_8gf": (2016, 37_364_472),
        "regnet_y_16gf": (3024, 80_565_140),
        "regnet_y_32gf": (3712, 141_333_770),
        "regnet_y_128gf": (7392, 637_419_894),
    },
    ARXIV + "2201.03545": {
        "convnext_tiny": (768, 27_818_592),
        "convnext_small": (768, 49_453_152),
        "convnext_base": (1024, 87_564_416),
        "convnext_large": (1536, 196_227_264),
    },
    ARXIV + "2010.11929": {
        "vit_b_16": (768, 85_798_656),
        "vit_b_32": (768, 87_455_232),
        "vit_l_16": (1024, 303_301_632),
        "vit_l_32": (1024, 305_510_400),
        "vit_h_14": (1280, 632_189_440),
    },
    ARXIV + "2103.14030": {
        "swin_t": (768, 27_519_354),
        "swin_s": (768, 48_837_258),
        "swin_b": (1024, 86_743_224),
    },
    ARXIV + "2111.09883": {
        "swin_v2_t": (768, 27_582_570),
        "swin_v2_s": (768, 48_968_442),
        "swin_v2_b": (1024, 86_905_848),
    },
    ARXIV + "2204.01697": {
        "maxvit_t": (512, 30_143_944),
    },
}
"""Paper -> torchvision's names of its architectures -> width, parameters without the classifier."""

NON_COMMERCIAL = ("regnet_y_128gf", "vit_h_14")
"""Whose best weights are SWAG's, https://github.com/facebookresearch/SWAG/blob/main/LICENSE."""


def entries() -> list[tuple[EncoderInfo, str]]:
    """One an architecture of torchvision, and one for all of timm."""
    found = [
        _torchvision(name, *sizes, paper) for paper, models in TORCHVISION.items() for name, sizes in models.items()
    ]
    source = "timm (any model's name)"
    timm = EncoderInfo("timm/*", "image", source=source, has_weights=True)
    return [*found, (timm, "encoders.image.timm:timm_encoder")]


def _torchvision(name: str, width: int, parameters: int, paper: str) -> tuple[EncoderInfo, str]:
    info = EncoderInfo(
        f"torchvision/{name}",
        "image",
        width,
        source="torchvision",
        licence="CC-BY-NC-4.0" if name in NON_COMMERCIAL else "BSD-3-Clause",
        paper=paper,
        has_weights=True,
        parameters=parameters,
    )
    return info, "encoders.image.torchvision:torchvision_encoder"
