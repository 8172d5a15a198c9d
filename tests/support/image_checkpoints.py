"""Small image models in the formats that pretrained ones come in, written by the tests that read them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from support.checkpoints import enlarge
from torch import nn
from torchvision.models.resnet import Bottleneck

from encoders import create_encoder
from encoders.base import Encoder

WIDE = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
IMAGE_MODELS = (
    *("vit", "deit", "beit", "dinov2", "dinov2_with_registers", "swin", "swinv2", "convnext", "convnextv2"),
    *("clip_vision_model", "siglip_vision_model"),
)
TWO_TOWERS = ("clip", "siglip")

TORCHVISION_SIZES = {
    "alexnet": 64,
    "vgg11": 32,
    "vgg11_bn": 32,
    "googlenet": 64,
    "inception_v3": 96,
    "resnet18": 64,
    "resnext50_32x4d": 64,
    "wide_resnet50_2": 32,
    "densenet121": 64,
    "squeezenet1_1": 64,
    "mobilenet_v2": 64,
    "mobilenet_v3_small": 64,
    "mnasnet0_5": 64,
    "shufflenet_v2_x0_5": 64,
    "efficientnet_b0": 64,
    "efficientnet_v2_s": 64,
    "regnet_x_400mf": 64,
    "regnet_y_400mf": 64,
    "convnext_tiny": 64,
    "swin_t": 64,
    "swin_v2_t": 64,
    "vit_b_32": 64,
    "maxvit_t": 224,
}
"""The smallest member of each family of torchvision, and an image size that it answers in a moment."""

TIMM_SIZES = {"test_vit3": 160, "test_resnet": 64, "test_convnext": 64, "test_mambaout": 64, "levit_128s": 224}
TIMM_SIZES |= {"test_maxvit": 160}
"""timm's own tiny models, with sequences of tokens and feature maps of both layouts, and two that need care."""


def settle(model: nn.Module, size: int, *, count: int = 4) -> None:
    """Gives BatchNorm the statistics of random images and a black one: a fresh model's deep features are constant."""
    norms = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = None  # the average of all batches
    model.train()
    with torch.no_grad():
        for block in (module for module in model.modules() if isinstance(module, Bottleneck)):
            block.bn3.weight.mul_(0.2)  # adds less than it is added to, as in a trained model; else rounding grows
        for _ in range(2 if norms else 0):
            images = torch.randn(count, 3, size, size)
            images[0] = -2.1  # black
            model(images)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
        norm.running_var.clamp_(min=float(norm.running_var.mean()))  # else rounding grows from norm to norm
    model.eval()


def lively(name: str, image_size: int) -> Callable[[Path], Encoder]:
    """An encoder of torchvision or timm with random weights whose tokens depend on the image."""

    class Trunk(nn.Module):
        def __init__(self, encoder: Encoder) -> None:
            super().__init__()
            self.encoder = encoder

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return self.encoder({"pixels": ((images * 60 + 128).clamp(0, 255)).to(torch.uint8)})[0]

    def build(_: Path) -> Encoder:
        encoder = create_encoder(name, weights=None, image_size=image_size)
        settle(Trunk(encoder), image_size)
        return encoder.train()

    return build


def image_config(kind: str, **changes: Any) -> Any:
    """A config of transformers with blocks of dim 32, for images of 32 pixels."""
    import transformers

    staged = {"image_size": 32, "patch_size": 4, "embed_dim": 16, "depths": [2, 1], "num_heads": [2, 4]}
    maps = {"num_stages": 2, "hidden_sizes": [16, 32], "depths": [2, 1], "patch_size": 4}
    patches = {**WIDE, "image_size": 32, "patch_size": 8}
    plain = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "image_size": 32, "patch_size": 8}
    tiny: dict[str, tuple[str, dict[str, Any]]] = {
        "vit": ("ViTConfig", patches),
        "deit": ("DeiTConfig", patches),
        "beit": (
            "BeitConfig",
            {**patches, "use_relative_position_bias": True, "use_absolute_position_embeddings": True},
        ),
        "dinov2": ("Dinov2Config", {**plain, "image_size": 48}),  # its positions are interpolated to the 32 of images
        "dinov2_with_registers": ("Dinov2WithRegistersConfig", {**plain, "num_register_tokens": 2}),
        "swin": ("SwinConfig", {**staged, "window_size": 4}),
        "swinv2": ("Swinv2Config", {**staged, "window_size": 4}),
        "convnext": ("ConvNextConfig", maps),
        "convnextv2": ("ConvNextV2Config", maps),
        "clip_vision_model": ("CLIPVisionConfig", patches),
        "siglip_vision_model": ("SiglipVisionConfig", patches),
    }
    if kind in TWO_TOWERS:
        name, vision = tiny[f"{kind}_vision_model"]
        text = {**WIDE, "vocab_size": 20, "max_position_embeddings": 16, "bos_token_id": 1, "eos_token_id": 2}
        whole = getattr(transformers, name.replace("Vision", ""))
        return whole(text_config=text, vision_config={**vision, **changes})
    name, arguments = tiny[kind]
    return getattr(transformers, name)(**{**arguments, **changes})


def processor(kind: str) -> Any:
    """The image processor of transformers for that kind, for images of 32 pixels."""
    import transformers

    if kind.startswith("convnext"):
        return transformers.ConvNextImageProcessorPil(size={"shortest_edge": 32}, crop_pct=0.8)
    if kind == "deit":
        return transformers.DeiTImageProcessorPil(size={"height": 40, "width": 40}, crop_size=32)
    if kind.startswith("dinov2"):
        return transformers.BitImageProcessorPil(size={"shortest_edge": 37}, crop_size=32)
    if kind.startswith("clip"):
        return transformers.CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size=32)
    names = {"beit": "Beit", "siglip_vision_model": "Siglip", "siglip": "Siglip"}
    return getattr(transformers, f"{names.get(kind, 'ViT')}ImageProcessorPil")(size={"height": 32, "width": 32})


def write_image_model(folder: Path, kind: str, *, seed: int = 0, **changes: Any) -> Any:
    """A folder as ``save_pretrained`` writes it, with its preprocessing; returns the model of transformers."""
    from transformers import AutoModel

    torch.manual_seed(seed)
    model = AutoModel.from_config(image_config(kind, **changes)).eval()
    if kind != "swinv2":  # its attention is that of cosines, which is sharp as it is
        enlarge(model)
    model.save_pretrained(folder)
    processor(kind).save_pretrained(folder)
    return model


def transformers_encoder(kind: str) -> Callable[[Path], Encoder]:
    """Built from such a folder."""

    def build(folder: Path) -> Encoder:
        write_image_model(folder, kind)
        return create_encoder(f"transformers/{folder}", **({"tower": "image"} if kind in TWO_TOWERS else {}))

    return build
