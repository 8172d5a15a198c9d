"""A model as records in, raw outputs out. Never imports torch."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from encoders.preprocessing import Arrays, UnreadableValueError
from multimodal.decoding import Decoding
from multimodal.records import InputReader, RecordError, Records, stack_inputs

BATCH_SIZE = 32

Sample = Mapping[str, tuple[Arrays, bool]]
"""Input -> its arrays and presence."""


@dataclass(frozen=True)
class BlackBox:
    """Readers, model and decodings of a run or a bundle."""

    readers: dict[str, InputReader]
    decodings: dict[str, Decoding]
    forward: Callable[[dict[str, Arrays]], dict[str, np.ndarray]]
    """Stacked inputs, as ``stack_inputs`` gives them -> task -> raw outputs [b c], and maybe ``embedding`` [b f]."""
    has_embedding: bool

    def read(self, records: Records, row: int) -> Sample:
        """One record's arrays.

        Raises:
            RecordError: if a value cannot be used, or every input is missing.
        """
        sample = {}
        for name, reader in self.readers.items():
            try:
                sample[name] = reader.read(records[row], records.root, records.allow_outside)
            except UnreadableValueError as error:
                raise RecordError(row, name, f"{records.place(row, reader.column)}: {error}") from error
        if not any(present for _, present in sample.values()):
            columns = ", ".join(reader.column for reader in self.readers.values())
            raise RecordError(row, None, f"{records.place(row)}: every input is missing ({columns}); fill in one")
        return sample

    def outputs(self, samples: Sequence[Sample]) -> dict[str, np.ndarray]:
        """Raw outputs of any number of records, at least one, batch by batch."""
        parts = [
            self.forward(stack_inputs(self.readers, samples[start : start + BATCH_SIZE]))
            for start in range(0, len(samples), BATCH_SIZE)
        ]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
