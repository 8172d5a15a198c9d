"""From records to batches."""

from multimodal.data.dataset import (
    Augmentation,
    Batch,
    RecordDataset,
    Sample,
    SampleDataset,
    StepLoader,
    collate,
    evaluation_batches,
    num_workers,
    training_batches,
)

__all__ = [
    "Augmentation",
    "Batch",
    "RecordDataset",
    "Sample",
    "SampleDataset",
    "StepLoader",
    "collate",
    "evaluation_batches",
    "num_workers",
    "training_batches",
]
