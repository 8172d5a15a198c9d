"""Image encoders of torchvision: every classification architecture, without its head."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from encoders.base import Encoder, all_real
from encoders.image.layers import Normalize, blocks_of
from encoders.image.torchvision_weights import build_torchvision_model, load_weights, preprocessing, published_weights
from encoders.info import Weights
from encoders.preprocessing.image import ImagePreprocessor
from encoders.registry import find_encoder

TRUNKS: dict[str, Sequence[str]] = {
    "AlexNet": ["features"],
    "VGG": ["features"],
    "GoogLeNet": [
        *("conv1", "maxpool1", "conv2", "conv3", "maxpool2", "inception3a", "inception3b", "maxpool3", "inception4a"),
        *("inception4b", "inception4c", "inception4d", "inception4e", "maxpool4", "inception5a", "inception5b"),
    ],
    "Inception3": [
        *("Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3", "maxpool1", "Conv2d_3b_1x1", "Conv2d_4a_3x3", "maxpool2"),
        *(f"Mixed_{block}" for block in ("5b", "5c", "5d", "6a", "6b", "6c", "6d", "6e", "7a", "7b", "7c")),
    ],
    "ResNet": ["conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4"],
    "DenseNet": ["features", "relu"],
    "SqueezeNet": ["features"],
    "MobileNetV2": ["features"],
    "MobileNetV3": ["features"],
    "MNASNet": ["layers"],
    "ShuffleNetV2": ["conv1", "maxpool", "stage2", "stage3", "stage4", "conv5"],
    "EfficientNet": ["features"],
    "RegNet": ["stem", "trunk_output"],
    "ConvNeXt": ["features"],
    "SwinTransformer": ["features", "norm", "permute"],
    "MaxVit": ["stem", *(f"blocks.{stage}.layers" for stage in range(4))],
    "VisionTransformer": ["conv_proj", "encoder.layers", "encoder.ln"],
}
"""Class of torchvision -> what of it makes the last feature map, in the order in which it runs."""


class TorchvisionEncoder(Encoder):
    """A classifier of torchvision up to its last feature map; a token for each position, row by row.

    Modules have the names that torchvision gives them, so that its state_dicts load as they are. Pooling, classifier
    and auxiliary classifiers are left out. A vision transformer gives its class token first, then its patches: the
    pre-training read its answer from that token alone, so that it sums up the image best.

    Args:
        model: of ``torchvision.models``, of a class in ``TRUNKS``; its modules are taken over.
        preprocessor: gives ``pixels`` uint8 ``[b 3 h w]``.
        normalize: from those to what the model was trained on.
        dim: of the tokens.
        options: JSON arguments of ``torchvision_encoder`` that rebuild it.
    """

    def __init__(
        self, model: Any, preprocessor: ImagePreprocessor, normalize: Normalize, *, dim: int, options: dict[str, Any]
    ) -> None:
        super().__init__()
        self.modality, self.preprocessor, self.embed_dim = "image", preprocessor, dim
        self.normalize, self.arguments = normalize, options
        self.trunk = tuple(TRUNKS[type(model).__name__])
        for name in dict.fromkeys(path.partition(".")[0] for path in self.trunk):
            self.add_module(name, getattr(model, name))
        self.class_token: nn.Parameter | None = getattr(model, "class_token", None)

    def forward(self, inputs: dict[str, Tensor]) -> tuple[Float[Tensor, "b l d"], Bool[Tensor, "b l"]]:
        """Tokens, all of them real."""
        x = self.normalize(inputs["pixels"])
        if self.class_token is not None:
            tokens = self._transformer_tokens(x, self.class_token)
        else:
            for part in self._parts():
                x = part(x)
            tokens = x.flatten(2).transpose(1, 2)  # [b l d]
        return tokens, all_real(tokens)

    def _parts(self) -> list[nn.Module]:
        parts = [self.get_submodule(path) for path in self.trunk]
        return [part for each in parts for part in (each if isinstance(each, nn.ModuleList) else [each])]

    def _transformer_tokens(
        self, x: Float[Tensor, "b 3 h w"], class_token: Float[Tensor, "1 1 d"]
    ) -> Float[Tensor, "b l d"]:
        patches = self.get_submodule("conv_proj")(x).flatten(2).transpose(1, 2)  # [b l-1 d]
        # shape, not len(): an exported graph would keep the number
        tokens = torch.cat([class_token.expand(x.shape[0], -1, -1), patches], dim=1)
        return self.get_submodule("encoder")(tokens)

    def depth_groups(self) -> list[list[nn.Parameter]]:
        """The stem, with what belongs to no block (class token and positions), then each block."""
        blocks = blocks_of(self._parts())
        listed = {id(parameter) for block in blocks for parameter in block}
        blocks[0].extend(parameter for parameter in self.parameters() if id(parameter) not in listed)
        return blocks


def torchvision_encoder(
    *, name: str, weights: Weights = None, image_size: int | None = None, version: str | None = None
) -> TorchvisionEncoder:
    """A classifier of torchvision by its registered name, e.g. ``torchvision/resnet18``.

    Args:
        weights: "pretrained" (those of ``version``), a state_dict file, or None.
        image_size: pixels a side; None takes that of the published weights. The border that is cut off after
            resizing keeps its share.
        version: of the published weights, whose preprocessing is taken over, e.g. "IMAGENET1K_V2"; None takes
            torchvision's best.

    Raises:
        ValueError: if the size does not suit the architecture, there is no such version, or the weights do not fit.
        FileNotFoundError: if the weights are not there.
    """
    published = published_weights(name, version)
    preprocessor, normalize = preprocessing(name, published, image_size)
    options = {"image_size": preprocessor.crop, "version": published.name}
    model = build_torchvision_model(name, preprocessor.crop)
    dim = find_encoder(name).embed_dim
    assert dim is not None
    encoder = TorchvisionEncoder(model, preprocessor, normalize, dim=dim, options=options)
    if weights is not None:
        load_weights(encoder, name, weights, published)
    return encoder
