"""Whether a job's model is right, record by record: what paired comparisons read."""

from collections.abc import Iterable

import numpy as np

from multimodal.evaluation import answer
from multimodal.job import Job
from multimodal.records import Records
from multimodal.records.targets import Truth, read_truth


def right_answers(job: Job, records: Records, tasks: Iterable[str]) -> dict[str, tuple[Truth, np.ndarray]]:
    """Classification task -> the known answers of the records that can be read, and 1 where the model is right [n]."""
    data, shown = job.dataset(records), job.model.input_names
    answers = answer(job.model, data, subsets=[shown], workers=job.workers)
    places, found = {int(row): place for place, row in enumerate(answers.rows)}, {}
    for name in tasks:
        truth = read_truth(data.targets[name], data.records, answers.rows.tolist())
        outputs = answers.outputs[shown][name][[places[int(row)] for row in truth.rows]]
        found[name] = truth, (outputs.argmax(axis=1) == truth.targets).astype(np.float64)
    return found
