"""A trained model as records in, predictions out. Never imports torch."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from encoders.preprocessing import Arrays
from multimodal.decoding import EMBEDDING, Decoding, Prediction
from multimodal.inference.batching import LOOK_AHEAD, OnError, RecordResult, predicted_batches, window_size
from multimodal.inference.sources import RecordSource, Sample, open_source
from multimodal.inference.tables import PredictionColumns
from multimodal.records import InputReader, RecordError, Records, stack_inputs
from multimodal.records.media import Outside

if TYPE_CHECKING:
    import pandas

BATCH_SIZE = 32


@dataclass(frozen=True)
class RecordModel:
    """Readers, model and decodings of a run or a bundle."""

    readers: Mapping[str, InputReader]
    decodings: Mapping[str, Decoding]
    forward: Callable[[dict[str, Arrays]], dict[str, np.ndarray]]
    """Stacked inputs, as ``stack_inputs`` gives them -> task -> raw outputs [b c], and maybe ``embedding`` [b f]."""
    has_embedding: bool
    allow_outside: Outside = False
    """Of the media of manifests, as ``read_records`` takes it."""

    def predict(self, records: Any, *, batch_size: int = BATCH_SIZE, on_error: OnError = "raise") -> list[RecordResult]:
        """Predictions of each record, in order, as ``Predictor.predict`` describes them."""
        batches = self.predict_batches(records, batch_size=batch_size, on_error=on_error, look_ahead=LOOK_AHEAD)
        return [result for batch in batches for result in batch]

    def predict_table(
        self, data: Any, *, batch_size: int = BATCH_SIZE, on_error: OnError = "raise"
    ) -> "pandas.DataFrame":
        """Predictions of a table, as ``Predictor.predict_table`` describes them."""
        results = self.predict(data, batch_size=batch_size, on_error=on_error)
        columns = PredictionColumns(self.decodings, every_probability=True)
        return columns.frame(results, getattr(data, "index", None) if hasattr(data, "to_dict") else None)

    def predict_batches(
        self, records: Any, *, batch_size: int = BATCH_SIZE, on_error: OnError = "raise", look_ahead: int = 0
    ) -> Iterator[list[RecordResult]]:
        """Predictions batch by batch, as ``Predictor.predict_batches`` describes them."""
        window_size(batch_size, look_ahead)  # raises at once, not with the first batch
        if on_error not in ("raise", "return"):
            raise ValueError(f"on_error is {on_error!r}; give 'raise' or 'return'")
        source = open_source(records, self.readers, self.allow_outside)
        predict = partial(self._predict, readers=source.readers)
        return predicted_batches(source, predict, batch_size=batch_size, on_error=on_error, look_ahead=look_ahead)

    def read(self, records: Records, row: int) -> Sample:
        """One record's arrays.

        Raises:
            RecordError: if a value cannot be used, or every input is missing; names the table's row and column.
        """
        source = RecordSource(records.rows, self.readers, records.root, records.allow_outside, strict_keys=False)
        sample = source.read(row, records[row])
        if isinstance(sample, RecordError):
            column = None if sample.input is None else self.readers[sample.input].column
            raise RecordError(row, sample.input, f"{records.place(row, column)}: {sample.reason}") from sample
        return sample

    def outputs(self, samples: Sequence[Sample]) -> dict[str, np.ndarray]:
        """Raw outputs of any number of records, at least one, batch by batch."""
        parts = [
            self.forward(stack_inputs(self.readers, samples[start : start + BATCH_SIZE]))
            for start in range(0, len(samples), BATCH_SIZE)
        ]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def decode(self, samples: Sequence[Sample], outputs: Mapping[str, np.ndarray]) -> list[dict[str, Prediction]]:
        """Predictions of each sample from raw outputs: task -> Prediction."""
        by_task = {task: decoding.predictions(outputs[task]) for task, decoding in self.decodings.items()}
        if self.has_embedding:
            by_task[EMBEDDING] = [Prediction(embedding=vector) for vector in outputs[EMBEDDING]]
        missing = [tuple(name for name, (_, present) in sample.items() if not present) for sample in samples]
        return [
            {task: replace(predictions[row], missing=missing[row]) for task, predictions in by_task.items()}
            for row in range(len(samples))
        ]

    def _predict(self, samples: list[Sample], readers: Mapping[str, InputReader]) -> list[dict[str, Prediction]]:
        outputs = self.forward(stack_inputs(readers, samples))
        if not all_finite(outputs):
            raise FloatingPointError("its outputs are not finite; its values are beyond the range of the model")
        return self.decode(samples, outputs)


def all_finite(outputs: Mapping[str, np.ndarray]) -> bool:
    """True if every number of every output is finite."""
    return all(bool(np.isfinite(values).all()) for values in outputs.values())
