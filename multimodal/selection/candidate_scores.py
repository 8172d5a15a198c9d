"""One candidate encoder on the records that it is judged by: its features, and what its source says."""

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from encoders.base import Encoder
from encoders.weights.source_run import SourceRun
from multimodal.builders.encoders import build_encoder
from multimodal.config import Candidate, Job
from multimodal.features import feature_reader
from multimodal.job.mean_tokens import input_vectors
from multimodal.records import InputReader, RecordError, Records
from multimodal.runtime.runtime import Runtime
from multimodal.selection.candidates import with_candidate
from multimodal.selection.source_heads import source_probabilities, source_records
from multimodal.transfer.guard.arms import estimate
from multimodal.transfer.selection.ranking import CandidateScore, LabelledFolds
from multimodal.transfer.selection.scores import leep, negative_conditional_entropy, proxy_a_distance

logger = logging.getLogger(__name__)

SOURCE_ROWS = 500
"""Records of an earlier run's training table that the A-distance compares with."""
FEWEST_ROWS = 5
"""Of either domain, for an A-distance in five folds."""


@dataclass
class ScoredCandidate:
    """A candidate and what was found of it."""

    candidate: Candidate
    encoder: Encoder
    reader: InputReader
    features: np.ndarray
    """[n d+1], of all records that were chosen."""
    failed: dict[int, RecordError]
    parameters: int
    seconds: float
    provenance: Mapping[str, Any]
    extras: dict[str, float] = field(default_factory=dict)


def measure(
    job: Job, name: str, candidate: Candidate, records: Records, base: Path, runtime: Runtime
) -> ScoredCandidate:
    """Features of one candidate: a single pass, or none where its tokens are kept."""
    with torch.random.fork_rng():
        torch.manual_seed(job.train.seed)  # random weights are the same in every ranking
        encoder = build_encoder(name, with_candidate(job.inputs[name], candidate), base)
    reader = InputReader(name, job.input_column(name), encoder.preprocessor)
    logger.info(f"{name}: encoding by {candidate.label}")
    began = time.monotonic()
    features, failed = _encode(reader, encoder, records, runtime)
    seconds = time.monotonic() - began
    parameters = sum(parameter.numel() for parameter in encoder.parameters())
    return ScoredCandidate(candidate, encoder, reader, features, failed, parameters, seconds, vars(encoder.provenance))


def _encode(
    reader: InputReader, encoder: Encoder, records: Records, runtime: Runtime
) -> tuple[np.ndarray, dict[int, RecordError]]:
    kept = feature_reader(reader, encoder.to(runtime.device), [records], pooled=True, runtime=runtime)
    failed: dict[int, RecordError] = {}
    return input_vectors(kept, records, failed), failed


def add_source_scores(
    seed: int,
    one: ScoredCandidate,
    records: Records,
    judged: Mapping[str, LabelledFolds],
    runtime: Runtime,
) -> None:
    """LEEP and NCE of an earlier run's best head, and the A-distance to its training records; nothing of others.

    Args:
        records: those that ``one`` was measured on.
        judged: task -> which of them count, and their classes.
    """
    source = SourceRun.find(one.provenance["weights"], one.candidate.encoder)
    if source is None:
        return
    places = np.unique(np.concatenate([some.rows for some in judged.values()]))
    found_by_task = source_probabilities(source, one.reader.column, records.subset(places), runtime)
    for probabilities in found_by_task.values():
        pairs = [(probabilities[np.searchsorted(places, some.rows)], some.labels) for some in judged.values()]
        found = {
            "leep": float(np.mean([leep(shares, labels) for shares, labels in pairs])),
            "nce": float(np.mean([negative_conditional_entropy(p.argmax(axis=1), labels) for p, labels in pairs])),
        }
        one.extras |= {key: max(value, one.extras.get(key, value)) for key, value in found.items()}
    there = source_records(source)
    if there is not None and len(places) >= FEWEST_ROWS:
        features = _source_features(seed, one, *there, runtime)
        if len(features) >= FEWEST_ROWS:
            one.extras["a_distance"] = proxy_a_distance(features, one.features[places, :-1])


def _source_features(seed: int, one: ScoredCandidate, records: Records, column: str, runtime: Runtime) -> np.ndarray:
    """The candidate's features of some records that trained its run, those that have the input."""
    rows = np.random.default_rng(seed).permutation(len(records))[:SOURCE_ROWS]
    reader = InputReader(one.reader.name, column, one.encoder.preprocessor)
    features, failed = _encode(reader, one.encoder, records.subset(np.sort(rows)), runtime)
    good = (features[:, -1] == 0) & ~np.isin(np.arange(len(features)), list(failed))
    return features[good, :-1]


def candidate_json(one: ScoredCandidate, score: CandidateScore) -> dict[str, Any]:
    """Candidate as JSON."""
    return {
        "encoder": one.candidate.label,
        "score": estimate(score.value, score.interval),
        "seconds": one.seconds,
        "parameters": one.parameters,
        "width": one.features.shape[1] - 1,
        "tasks": score.per_task,
        "logme": score.logme,
        "leep": one.extras.get("leep"),
        "nce": one.extras.get("nce"),
        "a_distance": one.extras.get("a_distance"),
        "weights": one.provenance["weights"],
        "licence": one.provenance["licence"],
    }
