"""Views of training values that are encoded once, and a dataset that keeps what it read."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from multimodal.data.augment import Augmentation
from multimodal.data.dataset import RecordDataset, Sample


@dataclass(frozen=True)
class Views:
    """The value as it is, and augmented ones; each a function of (seed, content, number), wherever the value stands.

    When not to use: where the encoder was trained to see no difference between such views; more records tell more.
    """

    count: int = 1
    """Of each value, with the one as it is."""
    augmentation: Augmentation | None = None
    """Makes the others; None where this input is not augmented, so that all views are one."""

    def __call__(self, content: str, epoch: int, row: int) -> str:
        """Key of the view that an epoch trains on, in the place of an augmentation of the value."""
        return self.key(content, epoch % self.count)

    def key(self, content: str, view: int) -> str:
        """Key of a view's tokens, from that of the value's content; view 0 is the value as it is."""
        if view == 0 or self.augmentation is None:
            return content
        made_by = [self.augmentation.modality, self.augmentation.settings.model_dump(), self.augmentation.seed, view]
        return hashlib.sha256(json.dumps([content, *made_by], sort_keys=True).encode()).hexdigest()

    def change(self, content: str, view: int) -> Callable[[Any], Any] | None:
        """Change that makes a view of the value; None leaves it as it is."""
        if view == 0 or self.augmentation is None:
            return None
        return partial(self.augmentation, epoch=view, row=int(content[:16], 16))


class CachedDataset(RecordDataset):
    """A ``RecordDataset`` that keeps what it has read: of frozen inputs, a sample is only views and labels.

    Args:
        views: how many epochs differ; from then on they repeat.
    """

    def __init__(self, data: RecordDataset, views: int = 1) -> None:
        super().__init__(data.records, data.readers, data.targets, data.augmentations, data.weights, data.origin)
        self.views = views
        self._samples: dict[tuple[int, int], Sample] = {}

    def __getitem__(self, key: tuple[int, int]) -> Sample:
        epoch, row = key
        place = (epoch % self.views, row)
        if place not in self._samples:
            self._samples[place] = super().__getitem__(place)
        return self._samples[place]
