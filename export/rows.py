"""Real records as batches, preprocessed each time they are iterated."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice, pairwise

import numpy as np

from encoders.preprocessing import Arrays, UnreadableValueError
from multimodal.inference.sources import Sample
from multimodal.records import InputReader, Records, stack_inputs


@dataclass(frozen=True)
class RealRows:
    """Selected records of a table."""

    readers: Mapping[str, InputReader]
    records: Records

    def batches(self, size: int = 32) -> Iterator[tuple[list[int], dict[str, Arrays]]]:
        """Rows of up to ``size`` readable records, and their arrays as ``stack_inputs`` returns them."""
        readable = ((place, read_sample(self.readers, self.records, place)) for place in range(len(self.records)))
        kept = ((place, sample) for place, sample in readable if sample is not None)
        while batch := list(islice(kept, size)):
            yield [place for place, _ in batch], stack_inputs(self.readers, [sample for _, sample in batch])


@dataclass(frozen=True)
class ReadRows:
    """Readable records of a table, and the arrays of each."""

    records: Records
    samples: list[Sample]


def spread_rows(readers: Mapping[str, InputReader], records: Records, max_count: int) -> RealRows:
    """At most ``max_count`` records, spread evenly over the table."""
    places = np.unique(np.linspace(0, len(records) - 1, min(max_count, len(records))).astype(int))
    return RealRows(readers, records.subset(places))


def read_sample(readers: Mapping[str, InputReader], records: Records, place: int) -> Sample | None:
    """Arrays of one record; None if it cannot be read, or has no input."""
    row = records[place]
    try:
        sample = {name: reader.read(row, records.root, records.allow_outside) for name, reader in readers.items()}
    except UnreadableValueError:
        return None
    return sample if any(present for _, present in sample.values()) else None


def read_spread_rows(readers: Mapping[str, InputReader], records: Records, max_count: int) -> ReadRows:
    """First readable record of each of ``max_count`` equal parts of the table."""
    starts = np.unique(np.linspace(0, len(records), max_count + 1).astype(int)).tolist()
    found: dict[int, Sample] = {}
    for start, end in pairwise(starts):
        for place in range(start, end):
            if (sample := read_sample(readers, records, place)) is not None:
                found[place] = sample
                break
    return ReadRows(records.subset(found), list(found.values()))


def input_columns(readers: Mapping[str, InputReader]) -> str:
    """Inputs and their columns, for messages."""
    return ", ".join(f"{name} (column {reader.column})" for name, reader in readers.items())
