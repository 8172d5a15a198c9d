"""A fixed affine map between an encoder's tokens and the layers above."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from multimodal.transfer.maps.affine import AffineMap


class TokenMap(nn.Module):
    """x -> x A + b of each token, as it was fitted before training; the identity until then.

    Args:
        in_dim: of the tokens, d.
        components: dimension of the result, k; None only scales each feature.

    Raises:
        ValueError: if there are more components than features.
    """

    matrix: Tensor
    offset: Tensor

    def __init__(self, in_dim: int, components: int | None = None) -> None:
        super().__init__()
        if components is not None and components > in_dim:
            raise ValueError(f"components is {components}, but tokens have dimension {in_dim}; give at most {in_dim}")
        self.out_dim = in_dim if components is None else components
        self.register_buffer("matrix", torch.ones(in_dim) if components is None else torch.eye(in_dim, components))
        self.register_buffer("offset", torch.zeros(self.out_dim))

    def fill(self, fitted: AffineMap) -> None:
        """Copies a fitted map."""
        self.matrix.copy_(torch.from_numpy(fitted.matrix))
        self.offset.copy_(torch.from_numpy(fitted.offset))

    def forward(self, tokens: Float[Tensor, "b l d"]) -> Float[Tensor, "b l k"]:
        """In float32, also under autocast: A of whitened components is large, and b takes most of x A away again."""
        if torch.is_autocast_enabled(tokens.device.type):
            with torch.autocast(tokens.device.type, enabled=False):
                return self._map(tokens.float())
        return self._map(tokens)

    def _map(self, tokens: Tensor) -> Tensor:
        return (tokens * self.matrix if self.matrix.ndim == 1 else tokens @ self.matrix) + self.offset
