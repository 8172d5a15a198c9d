"""The training records nearest to a record, by the fused vector. Never imports torch."""

from dataclasses import dataclass

import numpy as np

from multimodal.decoding import EMBEDDING
from multimodal.inference.record_model import BATCH_SIZE, RecordModel, Sample
from multimodal.records import RecordError, Records


@dataclass(frozen=True)
class Neighbors:
    """A table and the fused vectors of its records."""

    records: Records
    rows: np.ndarray
    """Rows (from 0) that could be read."""
    vectors: np.ndarray
    """[n f], of length 1."""

    @classmethod
    def of(cls, box: RecordModel, records: Records) -> "Neighbors":
        """Encodes a table, leaving out unreadable records.

        Raises:
            ValueError: if the model gives no embedding, or no record can be read.
        """
        if not box.has_embedding:
            raise ValueError(
                "this bundle has no output `embedding`, by which records are near each other; export it again with "
                "--embedding, or explain without a training table"
            )
        rows: list[int] = []
        vectors: list[np.ndarray] = []
        for start in range(0, len(records), BATCH_SIZE):
            samples: list[Sample] = []
            for row in range(start, min(start + BATCH_SIZE, len(records))):
                try:
                    samples.append(box.read(records, row))
                except RecordError:
                    continue
                rows.append(row)
            if samples:
                vectors.append(box.outputs(samples)[EMBEDDING])
        if not rows:
            raise ValueError(f"{records.source} has no record that can be read; give the table that trained the model")
        return cls(records, np.array(rows), np.concatenate(vectors))

    def nearest(self, vector: np.ndarray, number: int) -> list[tuple[int, float]]:
        """Rows (from 0) with their cosine similarity, nearest first; equal ones in the table's order."""
        similarity = self.vectors.astype(np.float64) @ vector.astype(np.float64)
        order = np.argsort(-similarity, kind="stable")[:number]
        return [(int(self.rows[place]), float(similarity[place])) for place in order]
