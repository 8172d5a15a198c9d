"""Image encoders of torchvision's ResNet family."""

from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from encoders.base import Encoder, Provenance, all_real
from encoders.preprocessing.base import whole_number
from encoders.preprocessing.image import ImagePreprocessor
from encoders.registry import Weights
from encoders.weights import download, load_state

STAGES = ("layer1", "layer2", "layer3", "layer4")


class ResNetEncoder(Encoder):
    """The convolutional part of a ResNet; a token for each position of its last feature map.

    Deep residual learning (He et al., 2016, https://arxiv.org/abs/1512.03385). Modules have the names that
    torchvision gives them, so that its state_dicts load as they are. Pooling and classifier are left out.

    Args:
        model: a ``torchvision.models.ResNet``, whose modules are taken over.
        preprocessor: gives ``pixels`` uint8 ``[b 3 h w]``.
        mean, std: of each colour, for pixels in 0..1.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, model: Any, preprocessor: ImagePreprocessor, *, mean: tuple[float, ...], std: tuple[float, ...]
    ) -> None:
        super().__init__()
        self.modality, self.preprocessor = "image", preprocessor
        self.conv1, self.bn1, self.relu, self.maxpool = model.conv1, model.bn1, model.relu, model.maxpool
        self.layer1, self.layer2, self.layer3, self.layer4 = (getattr(model, stage) for stage in STAGES)
        self.embed_dim, self.image_size = model.fc.in_features, preprocessor.crop
        self.register_buffer("mean", torch.tensor(mean)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(std)[:, None, None], persistent=False)

    def forward(self, inputs: dict[str, Tensor]) -> tuple[Float[Tensor, "b l d"], Bool[Tensor, "b l"]]:
        """Tokens of the feature map, row by row; all are real."""
        x = (inputs["pixels"].to(self.mean.dtype) / 255.0 - self.mean) / self.std  # [b 3 h w]
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))  # [b d h/32 w/32]
        tokens = x.flatten(2).transpose(1, 2)  # [b l d]
        return tokens, all_real(tokens)

    def depth_groups(self) -> list[list[nn.Parameter]]:
        """The stem, then each residual block."""
        blocks = [block for stage in STAGES for block in getattr(self, stage)]
        stem = [*self.conv1.parameters(), *self.bn1.parameters()]
        return [stem, *(list(block.parameters()) for block in blocks)]

    def architecture(self) -> dict[str, Any]:
        """The size of its pictures."""
        return {"image_size": self.image_size}


def resnet(*, name: str, weights: Weights = None, image_size: int | None = None) -> ResNetEncoder:
    """A ResNet by its registered name, e.g. ``torchvision/resnet18``.

    Args:
        weights: "pretrained" (torchvision's best for this architecture), a state_dict file, or None.
        image_size: pixels a side; None takes that of the pretrained weights. The border that is cut off after
            resizing keeps its share.

    Raises:
        ValueError: if the size is not a positive number, or the weights do not fit.
        FileNotFoundError: if the weights are not there.
    """
    from torchvision.models import get_model, get_model_weights

    architecture = name.removeprefix("torchvision/")
    published = get_model_weights(architecture).DEFAULT
    transforms = published.transforms()
    (crop,), (resized,) = transforms.crop_size, transforms.resize_size
    if image_size is not None:
        crop, resized = whole_number("image_size", image_size), round(image_size * resized / crop)
    preprocessor = ImagePreprocessor(resized, crop=crop, interpolation=transforms.interpolation.value)
    encoder = ResNetEncoder(
        get_model(architecture, weights=None),
        preprocessor,
        mean=tuple(transforms.mean),
        std=tuple(transforms.std),
    )
    if weights is not None:
        path = download(published.url, name) if weights == "pretrained" else Path(weights)
        encoder.provenance = Provenance(str(weights), load_state(encoder, path, ignore=("fc.",)))
    return encoder
