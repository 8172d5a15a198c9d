"""The text towers of CLIP, SigLIP and CLAP."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from encoders.transformers.loading import find_checkpoint
from encoders.weights.state import read_state


@dataclass(frozen=True)
class TextTower:
    """Names in transformers of a text tower, and of the embedding that it shares with the image tower."""

    model: str
    """Class that gives hidden states."""
    projecting: str
    """Class that gives the shared embedding, too."""
    embedding: str
    """Field of its output that holds it."""
    reads_padding: bool = False
    """Trained without a mask, on texts that were all padded to the same length."""


TEXT_TOWERS = {
    "clip_text_model": TextTower("CLIPTextModel", "CLIPTextModelWithProjection", "text_embeds"),
    "siglip_text_model": TextTower("SiglipTextModel", "SiglipTextModel", "pooler_output", reads_padding=True),
    "siglip2_text_model": TextTower("Siglip2TextModel", "Siglip2TextModel", "pooler_output", reads_padding=True),
    "clap_text_model": TextTower("ClapTextModel", "ClapTextModelWithProjection", "text_embeds"),
}
"""CLIP (https://arxiv.org/abs/2103.00020), SigLIP (https://arxiv.org/abs/2303.15343), SigLIP 2
(https://arxiv.org/abs/2502.14786) and CLAP (https://arxiv.org/abs/2211.06687), by the tower's ``model_type``."""


def cosine_scale(name: str, weights: str) -> float:
    """Factor by which a model of two modalities multiplies the cosines of its towers' embeddings.

    Args:
        name, weights: as one of its towers was created with.

    Raises:
        ValueError: if its weights do not have it.
    """
    _, files, _ = find_checkpoint(name, weights)
    for path in files:
        state = read_state(path)
        if "logit_scale" in state:
            return float(state["logit_scale"].float().exp())
    raise ValueError(
        f"{name}: its weights ({weights}) hold no logit_scale, so they are not those of a model of two aligned "
        "modalities; give a CLIP, SigLIP or CLAP"
    )


def text_tower_state(state: Mapping[str, Tensor], *, nested: bool) -> dict[str, Tensor]:
    """The tensors of the text tower among those of a whole model.

    Args:
        nested: whether the class that gets them has the tower as its ``text_model``.
    """
    if not any(name.startswith("text_model.") for name in state):
        return dict(state)
    kept = {name: tensor for name, tensor in state.items() if name.startswith(("text_model.", "text_projection."))}
    return kept if nested else {name.removeprefix("text_model."): tensor for name, tensor in kept.items()}
