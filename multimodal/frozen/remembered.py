"""Records whose inputs are all kept tokens, each read once."""

from multimodal.data import RecordDataset, Sample


class RememberedRecords(RecordDataset):
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
