"""The layer and the shipped weights of the compact encoders; each file of weights has a card beside it."""

from pathlib import Path

import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from encoders.base import Encoder, Provenance
from encoders.weights.state import load_state

FOLDER = Path(__file__).with_name("weights")
LICENCE = "Apache-2.0"
"""Of the weights; the cards name their training data, with the licence of each."""


class GatedConv(nn.Module):
    """Adds to each token a convolution over its neighbours, of which one half gates the other.

    Gated linear units (Dauphin et al., 2017, https://arxiv.org/abs/1612.08083), centred instead of causal.
    Padding counts as zero, as what lies beyond the ends does.

    Args:
        dim: of the tokens.
        size: tokens that one output sees; odd.
        dropout: probability of dropping an element of what is added while training.
    """

    def __init__(self, dim: int, size: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.conv = nn.Conv1d(dim, 2 * dim, size, padding=size // 2)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Float[Tensor, "b l d"], mask: Bool[Tensor, "b l"]) -> Float[Tensor, "b l d"]:
        """Sums ``x`` and the gated convolution of its normalised tokens."""
        real = self.norm(x) * mask[:, :, None].to(x.dtype)
        return x + self.dropout(F.glu(self.conv(real.transpose(1, 2)), dim=1).transpose(1, 2))


def load_weights(encoder: Encoder, weights: str | Path | None) -> None:
    """Loads a state_dict file, or with "pretrained" the file of the package; None leaves the weights random.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it does not fit, as where ``width`` is not that of the package's weights.
    """
    if weights is None:
        return
    if weights != "pretrained":
        encoder.provenance = Provenance(str(weights), load_state(encoder, Path(weights)))
        return
    try:
        digest = load_state(encoder, FOLDER / f"{encoder.modality}.safetensors")
    except ValueError as error:
        raise ValueError(
            f"compact/{encoder.modality} has weights for its own width alone; leave width out, or set weights to null "
            "for random ones"
        ) from error
    encoder.provenance = Provenance("pretrained", digest, LICENCE)
