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
    """Selected records of a table; unreadable ones are left out."""

    readers: Mapping[str, InputReader]
    records: Records
    places: tuple[int, ...]
    """In ``records``, from 0."""

    def batches(self, size: int = 32) -> Iterator[tuple[list[int], dict[str, Arrays]]]:
        """Places of up to ``size`` records, and their arrays as ``stack_inputs`` returns them."""
        readable = ((place, read_sample(self.readers, self.records, place)) for place in self.places)
        kept = ((place, sample) for place, sample in readable if sample is not None)
        while batch := list(islice(kept, size)):
            yield [place for place, _ in batch], stack_inputs(self.readers, [sample for _, sample in batch])

    def number(self, place: int) -> int:
        """Row of a record in the original table, from 0."""
        return _number(self.records, place)


@dataclass(frozen=True)
class ReadRows:
    """Readable records of a table, and their arrays."""

    samples: list[Sample]
    records: Records
    places: list[int]
    """In ``records``, from 0."""

    def number(self, index: int) -> int:
        """Row of a sample in the original table, from 0."""
        return _number(self.records, self.places[index])


def spread_rows(readers: Mapping[str, InputReader], records: Records, max_count: int) -> RealRows:
    """At most ``max_count`` records, spread evenly over the table."""
    places = np.unique(np.linspace(0, len(records) - 1, min(max_count, len(records))).astype(int))
    return RealRows(readers, records, tuple(places.tolist()))


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
    found = ReadRows([], records, [])
    for start, end in pairwise(starts):
        for place in range(start, end):
            sample = read_sample(readers, records, place)
            if sample is not None:
                found.samples.append(sample)
                found.places.append(place)
                break
    return found


def input_columns(readers: Mapping[str, InputReader]) -> str:
    """Inputs and their columns, for messages."""
    return ", ".join(f"{name} (column {reader.column})" for name, reader in readers.items())


def _number(records: Records, place: int) -> int:
    return place if records.numbers is None else int(records.numbers[place])
