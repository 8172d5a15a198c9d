"""Classification by the names of the classes: an input's embedding is compared with those of texts."""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from fusion.concat import parts_of
from multimodal.model.heads import ClassificationHead, HeadOver
from multimodal.model.model import MultimodalModel
from multimodal.model.objective import Objective, StepContext


class ZeroShotHead(HeadOver):
    """Scaled cosines between one input's embedding and the class embeddings, which are the weights of a linear head.

    CLIP (Radford et al., 2021, https://arxiv.org/abs/2103.00020), section 3.1. Trained further it is a linear probe
    that starts there, as in CLAP (Silva-Rodriguez et al., 2024, https://arxiv.org/abs/2312.12730), with the scale kept.

    When not to use: where names say little of what is seen (article numbers, fine grades); where other inputs carry
    the answer, which it does not look at.

    Args:
        in_dims: dimension of the mean token of *each* input.
        name: the input that is compared.
        head: linear, over the embedding.
        projection: from the normalised mean token to the embedding; None takes the mean token itself.
    """

    scale: Float[Tensor, ""]
    sees = "mean_tokens"

    def __init__(
        self, in_dims: Mapping[str, int], name: str, head: ClassificationHead, *, projection: nn.Linear | None = None
    ) -> None:
        super().__init__()
        self.in_dims, self.input = dict(in_dims), name
        self.head, self.projection = head, projection
        self.num_outputs, self.chance_loss = head.num_outputs, head.chance_loss
        self.register_buffer("scale", torch.ones(()))

    @property
    def one(self) -> ClassificationHead:
        """The linear head."""
        return self.head

    @torch.no_grad()
    def fill(self, classes: Float[Tensor, "c d"], scale: float, projection: nn.Linear | None) -> None:
        """Makes it the zero-shot classifier.

        Args:
            classes: their embeddings, each of length 1.
            scale: of the cosines.
            projection: as the head's own, with its weights.

        Raises:
            ValueError: if the embeddings have another dimension.
        """
        weight = self.head.linear.weight
        if classes.shape != weight.shape:
            raise ValueError(
                f"the classes' embeddings are {list(classes.shape)}, and the head compares {list(weight.shape)}; take "
                "both encoders from the same model"
            )
        weight.copy_(classes)
        self.head.linear.bias.zero_()
        self.scale.fill_(scale)
        if self.projection is not None and projection is not None:
            self.projection.load_state_dict(projection.state_dict())

    def forward(self, tokens: Float[Tensor, "b f"]) -> Float[Tensor, "b c"]:
        """Logits: the scale times the cosines, at first."""
        part = parts_of(tokens, self.in_dims)[self.input].float()
        if self.projection is not None:
            part = self.projection(F.layer_norm(part, part.shape[1:]))
        return self.scale * self.head(F.normalize(part.float(), dim=1))


def class_embeddings(texts: Float[Tensor, "c t d"]) -> Float[Tensor, "c d"]:
    """One direction for each class: the mean of those of its t texts, at length 1."""
    return F.normalize(F.normalize(texts, dim=2).mean(dim=1), dim=1)


class PullToNames(Objective):
    """Half the squared distance of a zero-shot head's weights from where they started, times a strength.

    When not to use: where zero-shot answers are worse than guessing; with many labels, which know better.

    Args:
        task: whose head it is.
        head: as ``fill`` left it.
    """

    start: Float[Tensor, "c d"]

    def __init__(self, task: str, head: ZeroShotHead, strength: float) -> None:
        super().__init__()
        self.task, self.strength = task, strength
        self.register_buffer("start", head.head.linear.weight.detach().clone(), persistent=False)

    def forward(self, seen: StepContext) -> Float[Tensor, ""]:
        """Zero at the start, and so is its gradient."""
        return (
            self.strength / 2 * (zero_shot_heads(seen.model)[self.task].head.linear.weight - self.start).square().sum()
        )


def zero_shot_heads(model: MultimodalModel) -> dict[str, ZeroShotHead]:
    """Task -> its head, where that is one of class names."""
    return {name: head for name, head in model.heads.items() if isinstance(head, ZeroShotHead)}
