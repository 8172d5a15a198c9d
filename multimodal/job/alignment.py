"""Class embeddings of zero-shot heads, from a text encoder that is aligned with another input's."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from encoders.base import Encoder, evaluating
from encoders.text.towers import cosine_scale
from fusion.base import masked_mean
from multimodal.builders.encoders import build_encoder
from multimodal.config import ConfigError, Input, Job, errors_of
from multimodal.model import MultimodalModel
from multimodal.model.contrastive import ContrastiveHead
from multimodal.model.zero_shot import class_embeddings, zero_shot_heads
from multimodal.run import Run, RunError

TEXTS_AT_A_TIME = 64


class Aligned(NamedTuple):
    """Encoder of texts into the space of another input's embeddings."""

    encoder: Encoder
    """Of texts."""
    scale: float
    """Of cosines between the two."""
    projection: nn.Linear | None = None
    """From the text's normalised mean token; None: the mean token is the embedding."""
    other: nn.Linear | None = None
    """From the other input's, likewise."""

    @torch.no_grad()
    def embed(self, texts: Sequence[str]) -> Float[Tensor, "n d"]:
        """The texts' embeddings, of any length."""
        preprocessor, found = self.encoder.preprocessor, []
        for start in range(0, len(texts), TEXTS_AT_A_TIME):
            arrays = preprocessor.stack([preprocessor(text) for text in texts[start : start + TEXTS_AT_A_TIME]])
            with evaluating(self.encoder):
                tokens, mask = self.encoder({name: torch.from_numpy(array) for name, array in arrays.items()})
            vector = masked_mean(tokens, mask)
            if self.projection is not None:
                vector = self.projection(F.layer_norm(vector, vector.shape[1:]))
            found.append(vector)
        return torch.cat(found)


def fill_zero_shot_heads(job: Job, model: MultimodalModel, base: Path) -> None:
    """Gives every zero-shot head its class embeddings, scale and projection.

    Args:
        base: folder that relative paths start from.

    Raises:
        ConfigError: if an encoder is not aligned with texts.
    """
    for name, head in zero_shot_heads(model).items():
        settings = job.tasks[name].zero_shot
        with errors_of(f"tasks.{name}.zero_shot."):
            settings.check_words(head.head.labels)
        if settings.source is None:
            aligned = _other_tower(job.owner(head.input), head.input, model.encoder(head.input), base)
        else:
            aligned = _from_run(name, settings.source, head.input, model.encoder(head.input), base)
        texts = [settings.texts(label) for label in head.head.labels]
        vectors = aligned.embed([text for of_class in texts for text in of_class])
        with errors_of(f"tasks.{name}: "):
            head.fill(class_embeddings(vectors.unflatten(0, (len(texts), -1))), aligned.scale, aligned.other)


def _other_tower(entry: Input, name: str, encoder: Encoder, base: Path) -> Aligned:
    """The text tower of the model whose image tower an input is read with."""
    if (entry.options.get("tower"), entry.options.get("pooling")) != ("image", "projected"):
        raise ConfigError(
            f"inputs.{name}: a zero-shot head needs an encoder that is aligned with texts; give a CLIP or SigLIP with "
            "options: {tower: image, pooling: projected}, or zero_shot.source, a run with a contrastive task"
        )
    weights = encoder.provenance.weights
    if weights == "random" or (Path(weights) / "model.json").is_file():
        raise ConfigError(
            f"inputs.{name}: its weights ({weights}) come without the text tower that a zero-shot head needs; set "
            "weights: pretrained, or give zero_shot.source"
        )
    tower = entry.model_copy(update={"options": {"tower": "text", "pooling": "projected"}})
    text = build_encoder(name, tower, base)
    with errors_of(f"inputs.{name}: "):
        return Aligned(text, cosine_scale(encoder.name, weights))


def _from_run(name: str, source: str, input_name: str, encoder: Encoder, base: Path) -> Aligned:
    """The text encoder and the projections of an earlier run's contrastive task."""
    folder = base / source if (base / source).exists() else Path(source)
    with errors_of(f"tasks.{name}.zero_shot.source: ", RunError):
        model = Run(folder).model
    found = []
    for head in model.heads.values():
        if isinstance(head, ContrastiveHead) and not head.shared:
            sides = {model.encoder(side).modality: (side, head.projections[i]) for i, side in enumerate(head.pair)}
            if sides.keys() == {encoder.modality, "text"} and encoder.modality != "text":
                found.append((head, sides[encoder.modality], sides["text"]))
    if len(found) != 1:
        raise ConfigError(
            f"tasks.{name}.zero_shot.source: {folder} has {len(found)} contrastive tasks between a text and an input "
            f"of modality {encoder.modality}; give a run with exactly one"
        )
    ((head, (other, projection), (text, of_text)),) = found
    _require_same(input_name, encoder, model.encoder(other), f"{folder}/inputs/{other}")
    assert isinstance(projection, nn.Linear)
    assert isinstance(of_text, nn.Linear)
    return Aligned(model.encoder(text), float(head.log_scale.detach().exp()), of_text, projection)


def _require_same(name: str, ours: Encoder, theirs: Encoder, place: str) -> None:
    """Refuses an encoder with other weights than the one that learned beside the texts."""
    left, right = ours.state_dict(), theirs.state_dict()
    if left.keys() != right.keys() or not all(torch.equal(left[key], right[key]) for key in left):
        raise ConfigError(
            f"inputs.{name}: its encoder is not the one that was aligned with the texts; set inputs.{name}.encoder: "
            f"{theirs.name} and inputs.{name}.weights: {place}"
        )
