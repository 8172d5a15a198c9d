"""Losses of this package as objectives of a training step that mixes source and target records."""

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from multimodal.config.setting import SOURCE, TARGET, UNLABELLED
from multimodal.model.objective import Objective, StepContext
from multimodal.transfer.adaptation.adversarial import (
    DomainDiscriminator,
    RandomMultilinearMap,
    cdan_loss,
    dann_loss,
    reversal_scale,
)
from multimodal.transfer.adaptation.confidence import entropy_loss, mcc_loss, pseudo_label_loss
from multimodal.transfer.adaptation.distances import deep_coral_loss, mmd_loss

PairLoss = Callable[[Tensor, Tensor], Tensor]
"""Features of the source [b d] and of the target [_b d] -> loss."""
MOST_PRODUCTS = 4096
"""Products of features and classes above which CDAN multiplies random projections, as its paper does."""
MIXTURE = (0.25, 0.5, 1.0, 2.0, 4.0)
"""Factors on the squared median distance: kernels of MMD, as in the code of https://arxiv.org/abs/1502.02791."""


class Alignment(Objective):
    """Comparison of source with target features: mean over its views.

    Args:
        views: input names, for their mean tokens; None, for the fused vector.
        least: records of each domain that a micro-batch needs; with fewer the loss is 0.
    """

    def __init__(self, views: Sequence[str | None], *, least: int = 1) -> None:
        super().__init__()
        self.views, self.least = tuple(views), least

    def forward(self, seen: StepContext) -> Float[Tensor, ""]:
        """Mean loss over the views."""
        total = torch.stack([parameter.sum() for parameter in self.parameters()] or [torch.zeros(())]).sum() * 0.0
        total = total.to(seen.output.fused.device) + seen.output.fused.sum() * 0.0
        for index, (features, source, target) in enumerate(self._pairs(seen)):
            if min(int(source.sum()), int(target.sum())) >= self.least:
                total = total + self.compare(index, seen, features, source, target) / len(self.views)
        return total

    @abstractmethod
    def compare(
        self,
        index: int,
        seen: StepContext,
        features: Float[Tensor, "b d"],
        source: Bool[Tensor, " b"],
        target: Bool[Tensor, " b"],
    ) -> Float[Tensor, ""]:
        """Loss of one view; the masks select the records of each domain that have it."""

    def _pairs(self, seen: StepContext) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        origin = seen.batch.origin
        source, target = origin == SOURCE, (origin == TARGET) | (origin == UNLABELLED)
        for view in self.views:
            if view is None:
                yield seen.output.fused.float(), source, target
            else:
                present = seen.batch.inputs[view]["present"]
                yield seen.output.pooled[view].float(), source & present, target & present


class Distance(Alignment):
    """A distance of the two batches of features, times a weight."""

    def __init__(self, views: Sequence[str | None], loss: PairLoss, *, weight: float) -> None:
        super().__init__(views, least=2)
        self.loss, self.weight = loss, weight

    def compare(self, index: int, seen: StepContext, features: Tensor, source: Tensor, target: Tensor) -> Tensor:
        """Weighted distance."""
        return self.weight * self.loss(features[source], features[target])


class Adversary(Alignment):
    """DANN: one discriminator per view, which learns at full rate; the reversed gradient grows with the training.

    Args:
        dims: of the views.
        weight: of the reversed gradient at the end.
        hidden_dim: of the discriminators' hidden layers; 0: none.
    """

    tally: Float[Tensor, "2 2"]

    def __init__(
        self, views: Sequence[str | None], dims: Sequence[int], *, weight: float, hidden_dim: int = 256
    ) -> None:
        super().__init__(views)
        self.weight = weight
        self.discriminators = nn.ModuleList(DomainDiscriminator(dim, hidden_dim) for dim in dims)
        self.register_buffer("tally", torch.zeros(2, 2))

    def compare(self, index: int, seen: StepContext, features: Tensor, source: Tensor, target: Tensor) -> Tensor:
        """The discriminator's loss."""
        scale = self.weight * reversal_scale(seen.progress)
        return dann_loss(self.counting(self.discriminators[index]), features[source], features[target], scale=scale)

    def counting(self, discriminator: nn.Module) -> Callable[[Tensor], Tensor]:
        """The discriminator, counting its correct outputs: first for source, then for target records."""
        calls: list[int] = []

        def counted(features: Tensor) -> Tensor:
            logits = discriminator(features)
            domain = len(calls)
            right = (logits.detach() > 0) if domain == 0 else (logits.detach() <= 0)
            self.tally[domain] += torch.stack([right.sum(), torch.tensor(len(right), device=right.device)])
            calls.append(domain)
            return logits

        return counted

    def monitor(self) -> dict[str, float]:
        """``discriminator``: balanced accuracy; a half where it cannot tell the domains apart."""
        shares = self.tally[:, 0] / self.tally[:, 1].clamp_min(1)
        self.tally.zero_()
        return {"discriminator": float(shares.mean())}


class ConditionalAdversary(Adversary):
    """CDAN: one discriminator per view and task, on features times predictions.

    Args:
        dims, weight, hidden_dim: as for ``Adversary``.
        classes: classification task -> number of its classes.
        seed: of the random projections.
    """

    def __init__(
        self,
        views: Sequence[str | None],
        dims: Sequence[int],
        classes: Mapping[str, int],
        *,
        weight: float,
        hidden_dim: int = 256,
        seed: int = 0,
    ) -> None:
        sizes = [(dim, count) for dim in dims for count in classes.values()]
        wide = [dim * count > MOST_PRODUCTS for dim, count in sizes]
        super().__init__(
            views,
            [1024 if large else dim * count for (dim, count), large in zip(sizes, wide, strict=True)],
            weight=weight,
            hidden_dim=hidden_dim,
        )
        self.tasks = tuple(classes)
        self.maps = nn.ModuleList(
            RandomMultilinearMap(dim, count, seed=seed) if large else nn.Identity()
            for (dim, count), large in zip(sizes, wide, strict=True)
        )

    def compare(self, index: int, seen: StepContext, features: Tensor, source: Tensor, target: Tensor) -> Tensor:
        """Mean over the tasks."""
        scale = self.weight * reversal_scale(seen.progress)
        losses = []
        for number, task in enumerate(self.tasks):
            place, outputs = index * len(self.tasks) + number, seen.output.outputs[task].float()
            random_map = self.maps[place]
            losses.append(
                cdan_loss(
                    self.counting(self.discriminators[place]),
                    (features[source], outputs[source]),
                    (features[target], outputs[target]),
                    scale=scale,
                    random_map=random_map if isinstance(random_map, RandomMultilinearMap) else None,
                )
            )
        return torch.stack(losses).mean()


class Sharpening(Objective):
    """Loss that sharpens predictions for unlabelled target records: mean over classification tasks.

    Args:
        tasks: classification tasks.
        loss: logits [b c] -> loss.
        ramped: grows with the training, as the reversed gradient of DANN does: early predictions are mostly wrong.
    """

    def __init__(self, tasks: Sequence[str], loss: Callable[[Tensor], Tensor], *, weight: float, ramped: bool) -> None:
        super().__init__()
        self.tasks, self.loss, self.weight, self.ramped = tuple(tasks), loss, weight, ramped

    def forward(self, seen: StepContext) -> Float[Tensor, ""]:
        """Loss of the unlabelled records of this micro-batch; zero if there are none."""
        rows = seen.batch.origin == UNLABELLED
        if not bool(rows.any()):
            return seen.output.fused.sum() * 0.0
        weight = self.weight * (reversal_scale(seen.progress) if self.ramped else 1.0)
        losses = [self.loss(seen.output.outputs[task][rows].float()) for task in self.tasks]
        return weight * torch.stack(losses).mean()


def create_adaptation(
    method: str,
    views: Mapping[str | None, int],
    classes: Mapping[str, int],
    *,
    weight: float,
    threshold: float = 0.9,
    hidden_dim: int = 256,
    seed: int = 0,
) -> Objective:
    """The objective of a method by its name in ``transfer.adapt``.

    Args:
        views: input name, or None for the fused vector -> dimension.
        classes: classification task -> number of its classes.
    """
    names, dims = list(views), list(views.values())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        built: dict[str, Callable[[], Objective]] = {
            "deep_coral": lambda: Distance(names, deep_coral_loss, weight=weight),
            "mmd": lambda: Distance(names, lambda s, t: mmd_loss(s, t, factors=MIXTURE), weight=weight),
            "dann": lambda: Adversary(names, dims, weight=weight, hidden_dim=hidden_dim),
            "cdan": lambda: ConditionalAdversary(names, dims, classes, weight=weight, hidden_dim=hidden_dim, seed=seed),
            "mcc": lambda: Sharpening([*classes], mcc_loss, weight=weight, ramped=False),
            "entropy": lambda: Sharpening([*classes], entropy_loss, weight=weight, ramped=True),
            "pseudo_labels": lambda: Sharpening(
                [*classes], lambda z: pseudo_label_loss(z, threshold=threshold), weight=weight, ramped=True
            ),
        }
        return built[method]()
