"""torchvision's published weights: their preprocessing, their files, and the architecture that takes them."""

import re
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from encoders.base import Encoder, Provenance
from encoders.image.layers import Normalize
from encoders.preprocessing.base import whole_number
from encoders.preprocessing.image import ImagePreprocessor
from encoders.weights.download import download
from encoders.weights.state import digest_of_files, fit_state, read_state

HEADS = ("fc.", "classifier.", "head.", "heads.", "aux1.", "aux2.", "AuxLogits.")
"""Prefixes of parameters that a state_dict may hold and no encoder uses."""

INCEPTION = ("googlenet", "inception_v3")
"""Their published weights come from TensorFlow; torchvision's ``transform_input`` brings an image normalised for
ImageNet to what they were trained on, 2 x - 1. Normalising with 0.5 and 0.5 is the same in one step."""

_OLD_DENSENET = re.compile(r"^(.*denselayer\d+\.(?:norm|relu|conv))\.([12]\..*)$")


def published_weights(name: str, version: str | None) -> Any:
    """An entry of torchvision's table of weights, by default its best.

    Raises:
        ValueError: if there is no such version.
    """
    from torchvision.models import get_model_weights

    table = get_model_weights(_architecture(name))
    if version is None:
        return table.DEFAULT
    if version not in table.__members__:
        raise ValueError(f"{name} has no weights of version {version!r}; there are {', '.join(table.__members__)}")
    return table[version]


def preprocessing(name: str, published: Any, image_size: int | None) -> tuple[ImagePreprocessor, Normalize]:
    """Preprocessing that the published weights were evaluated with, at another size where one is asked for.

    Raises:
        ValueError: if the architecture cannot take images of that size.
    """
    transforms = published.transforms()
    (crop,), (resized,) = transforms.crop_size, transforms.resize_size
    if image_size is not None:
        checked = _checked_size(name, image_size, published.meta["min_size"][0])
        crop, resized = checked, round(checked * resized / crop)
    preprocessor = ImagePreprocessor(resized, crop=crop, interpolation=transforms.interpolation.value)
    if _architecture(name) in INCEPTION:
        return preprocessor, Normalize([0.5] * 3, [0.5] * 3)
    return preprocessor, Normalize(transforms.mean, transforms.std)


def _checked_size(name: str, image_size: int, least: int) -> int:
    architecture = _architecture(name)
    if architecture.startswith("swin"):
        least = 32  # the table says what they were trained at, but windows are padded
    elif architecture.startswith(("vit", "maxvit")):
        least = 224 if architecture.startswith("maxvit") else int(architecture[-2:])
        if whole_number("image_size", image_size) % least:
            raise ValueError(f"image_size is {image_size}; {name} cuts images to pieces, give a multiple of {least}")
    if whole_number("image_size", image_size) < least:
        raise ValueError(f"image_size is {image_size}; {name} needs at least {least} pixels a side")
    return int(image_size)


def build_torchvision_model(name: str, image_size: int) -> Any:
    """torchvision's model with random weights, without auxiliary classifiers."""
    from torchvision.models import get_model

    architecture, options = _architecture(name), dict[str, Any]()
    if architecture.startswith("vit"):
        options["image_size"] = image_size
    elif architecture.startswith("maxvit"):
        options["input_size"] = (image_size, image_size)
    elif architecture in INCEPTION:
        options.update(aux_logits=False, init_weights=True)
    model = get_model(architecture, weights=None, **options)
    if architecture.startswith("densenet"):
        model.relu = nn.ReLU(inplace=True)  # theirs is a function call between features and classifier
    return model


def load_weights(encoder: Encoder, name: str, weights: str | Path, published: Any) -> None:
    """Loads "pretrained" or a state_dict file, which may hold a classifier, and notes where they come from.

    Raises:
        FileNotFoundError: if they are not there.
        ValueError: if they do not fit.
    """
    pretrained = weights == "pretrained"
    path = download(published.url, name) if pretrained else Path(weights)
    state = {_OLD_DENSENET.sub(r"\1\2", key): tensor for key, tensor in read_state(path).items()}
    fit_state(encoder, _with_positions(encoder, state), str(path), ignore=HEADS)
    licence = "unknown"
    if pretrained:  # SWAG's weights alone have a licence of their own
        licence = "CC-BY-NC-4.0" if "SWAG" in published.meta.get("license", "") else "BSD-3-Clause"
    encoder.provenance = Provenance(str(weights), digest_of_files([path]), licence)


def _with_positions(encoder: Any, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A vision transformer's positions, interpolated to the encoder's image size."""
    from torchvision.models.vision_transformer import interpolate_embeddings

    own, key = encoder.state_dict(), "encoder.pos_embedding"
    if key not in own or key not in state or state[key].shape == own[key].shape:
        return state
    return interpolate_embeddings(encoder.preprocessor.crop, encoder.conv_proj.kernel_size[0], state)


def _architecture(name: str) -> str:
    return name.removeprefix("torchvision/")
