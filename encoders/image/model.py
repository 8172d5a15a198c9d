"""Image models of other libraries, as encoders."""

from collections.abc import Callable
from typing import Any

from jaxtyping import Bool, Float
from torch import Tensor, nn

from encoders.base import Encoder, all_real, blank_tokens
from encoders.image.layers import Normalize
from encoders.parameter_order import settle
from encoders.preprocessing.image import ImagePreprocessor

Features = Callable[[nn.Module, Tensor], Any]
"""(model, normalised images ``[b 3 h w]``) -> its last hidden states or its last feature map."""
Order = Callable[[nn.Module, Callable[[], object]], list[list[str]]]
"""(model, one forward pass of it) -> names of its parameters by depth."""


class ImageModelEncoder(Encoder):
    """The last hidden states of an image model as its library gives them, or its last feature map, row by row.

    A class token, and register tokens where there are any, come before the patches, as in the library.

    Args:
        model: parameters that its features do not depend on (a classifier's, a pooler's) are removed.
        features: what is called; a function at the top of a module, so that the encoder can be copied.
        channels: dimension of a feature map ``[b d h w]`` or ``[b h w d]``, which tells the two apart.
        preprocessor: gives ``pixels`` uint8 ``[b 3 h w]``.
        normalize: from those to what the model was trained on.
        order: of the parameters, by depth.
        options: JSON arguments that rebuild the encoder without its folder, the hub or a library's defaults.

    Raises:
        ValueError: if the model gives neither hidden states nor a feature map.
    """

    preprocessor: ImagePreprocessor

    def __init__(
        self,
        model: nn.Module,
        features: Features,
        preprocessor: ImagePreprocessor,
        normalize: Normalize,
        *,
        channels: int,
        order: Order,
        options: dict[str, Any],
    ) -> None:
        super().__init__()
        self.modality, self.preprocessor, self.normalize = "image", preprocessor, normalize
        self.model, self.features, self.channels, self.arguments = model, features, channels, options
        self.embed_dim, self._order = settle(model, self._probe, lambda: order(model, self._probe))

    def _probe(self) -> Tensor:
        try:
            return blank_tokens(self)
        except (TypeError, ValueError, AttributeError, RuntimeError, AssertionError) as error:
            size = [self.preprocessor.crop] * 2
            raise ValueError(
                f"{type(self.model).__name__} does not turn images of {size} pixels into hidden "
                f"states ({error}); give an image size that it takes, or another image model"
            ) from error

    def forward(self, inputs: dict[str, Tensor]) -> tuple[Float[Tensor, "b l d"], Bool[Tensor, "b l"]]:
        """Tokens, all of them real."""
        tokens = self._flat(self.features(self.model, self.normalize(inputs["pixels"])))
        return tokens, all_real(tokens)

    def _flat(self, features: Any) -> Float[Tensor, "b l d"]:
        if not isinstance(features, Tensor) or features.ndim not in (3, 4):
            raise TypeError(f"it gives {type(features).__name__} instead of one feature map or sequence")
        if features.ndim == 3:
            return features
        if features.shape[1] == self.channels:
            return features.flatten(2).transpose(1, 2)  # [b l d]
        return features.flatten(1, 2)  # [b h w d] -> [b l d]

    def depth_groups(self) -> list[list[nn.Parameter]]:
        """The stem, each block, what follows them."""
        parameters = dict(self.model.named_parameters())
        return [[parameters[name] for name in group] for group in self._order]
