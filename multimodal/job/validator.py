"""Validation of a job's model: the score that chooses its best weights, and the temperatures of its probabilities."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from multimodal.config import Task
from multimodal.data.dataset import RecordDataset
from multimodal.decoding import Decoding
from multimodal.evaluation import (
    answer,
    calibrations,
    fit_expert_weights,
    flat_values,
    labelled_outputs,
    score_outputs,
)
from multimodal.metrics import selection_score
from multimodal.metrics.calibration import fit_temperature, with_temperature
from multimodal.model import MultimodalModel


@dataclass(frozen=True)
class Validator:
    """Scores a model, as it is at each call, on the validation records."""

    model: MultimodalModel
    data: RecordDataset
    tasks: Mapping[str, Task]
    metric: str
    """Score that chooses: "mean", or "TASK.METRIC"."""
    workers: int = 0
    on_error: Literal["raise", "skip"] = "raise"

    def __call__(self) -> tuple[dict[str, float], float]:
        """Metrics as flat numbers, and the score that chooses the best weights.

        The expert weights of late fusion are fitted first, to the same records.

        Raises:
            RecordError: for the first record that cannot be read, with ``on_error`` "raise".
        """
        shown = self.model.input_names
        if self.model.late_heads:
            outputs = fit_expert_weights(self.model, self.data, workers=self.workers)
        else:
            outputs = answer(self.model, self.data, subsets=[shown], workers=self.workers)
        if outputs.errors and self.on_error == "raise":
            raise outputs.errors[0]
        decodings = self.decodings()
        metrics = score_outputs(labelled_outputs(outputs, shown, self.data, decodings), decodings)
        types = {name: task.kind for name, task in self.tasks.items()}
        return dict(flat_values(metrics)), selection_score(metrics, self.metric, types)

    def calibrate(self) -> tuple[dict[str, Decoding], dict[str, Any]]:
        """Each task's decoding with temperature and thresholds fitted to these records, and how well they fit, JSON."""
        shown, plain = self.model.input_names, self.decodings()
        outputs = answer(self.model, self.data, subsets=[shown], workers=self.workers)
        labelled, temperatures = labelled_outputs(outputs, shown, self.data, plain), {}
        for name, values, truth in labelled:
            added = self.model.head(name).loss_offsets
            offsets = None if added is None else added.cpu().numpy()
            temperatures[name] = fit_temperature(plain[name], values, truth.targets, offsets)
        decodings = self.decodings(temperatures)
        for name, values, truth in labelled:
            kind, scores = self.tasks[name].kind, decodings[name].scores(values)
            decodings[name] = kind.with_thresholds(decodings[name], self.tasks[name], scores, truth.targets)
        return decodings, calibrations(labelled, decodings)

    def decodings(self, temperatures: Mapping[str, float] | None = None) -> dict[str, Decoding]:
        """Each task's decoding, with its temperature, if any."""
        given = {} if temperatures is None else temperatures
        return {
            name: task.kind.configured(with_temperature(self.model.head(name).decoding(), given.get(name, 1.0)), task)
            for name, task in self.tasks.items()
        }
