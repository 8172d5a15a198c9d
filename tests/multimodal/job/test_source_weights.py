"""How much the source counts beside target labels: chosen by these, or given, or nothing."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.assertions import assert_close
from support.logs import logged

import multimodal as mm
from multimodal.config import ConfigError
from multimodal.config.setting import SOURCE
from multimodal.job import TrainingSetup
from multimodal.job.source_weights import weight_source_records
from multimodal.records import RecordError
from multimodal.runtime.runtime import Runtime
from multimodal.splits.tables import read_tables
from multimodal.training import fit

WORDS = ("apple", "bread", "milk", "plum", "soap", "tea", "wine", "yam")
"""The first half are of class "eat", the others "use"; a text is some words of one half and some of both."""


def texts(n: int, seed: int, *, flipped: bool = False) -> list[dict[str, Any]]:
    """Records whose class is that of most of their words; ``flipped`` names the other class."""
    rng, rows = np.random.default_rng(seed), []
    for number in range(n):
        label = number % 2
        own, noise = rng.choice(WORDS[4 * label : 4 * label + 4], 2), rng.choice(WORDS, 6)
        name = ("eat", "use")[label if not flipped else 1 - label]
        rows.append({"text": " ".join([*own, *noise]), "kind": name})
    return rows


def make_job(source: dict[str, Any], **changes: Any) -> mm.Job:
    values = {
        "data": {"workers": 0},
        "inputs": {"text": {"encoder": "compact/text"}},
        "fusion": {"name": "concat"},
        "tasks": {"kind": {}},
        "transfer": {"source": source},
        "train": {"epochs": 1, "batch_size": 8},
    }
    return mm.Job.model_validate({**values, **changes})


def weigh(source: dict[str, Any], tables: dict[str, Any], **changes: Any) -> tuple[TrainingSetup, list[str]]:
    chosen = make_job(source, **changes)
    setup = TrainingSetup.build(chosen, read_tables(chosen, **tables), Path.cwd())
    with logged() as said:
        return weight_source_records(setup, Path.cwd(), Runtime()), said


def test_a_source_with_the_same_labels_counts_and_one_with_other_labels_does_not():
    target = texts(16, 0)
    for flipped in (False, True):
        setup, said = weigh({}, {"train": target, "valid": target, "source": texts(120, 1, flipped=flipped)})
        weight, scores = setup.source_choice["weight"], setup.source_choice["scores"]
        assert list(scores) == ["0", "0.003", "0.03", "0.3", "1"]
        assert scores[f"{weight:g}"] == max(scores.values())
        assert any(line.startswith("source: held-out target accuracy by weight: 0 0.") for line in said)
        if flipped:
            assert (weight, setup.tables.source) == (0, None)
            assert said[-1] == "source: weight 0, as if there were none"
        else:
            assert weight > 0
            assert said[-1] == f"source: each record counts {weight:g} times a target record"


def test_target_records_of_a_group_are_held_out_together():
    # classes by chance: a record says nothing of others, and all of its own copies
    kinds = ("use", "eat", "eat", "use") * 3
    rows = zip(texts(12, 0), kinds, strict=True)
    target = [{**row, "kind": kind, "shot": str(number)} for number, (row, kind) in enumerate(rows)]
    tables = {"train": target * 4, "valid": target, "source": texts(40, 1)}
    alone, _ = weigh({}, tables)
    together, _ = weigh({}, tables, data={"workers": 0, "group": "shot"})
    assert alone.source_choice["scores"]["0"] == 1.0  # a copy of each is among those that train
    assert together.source_choice["scores"]["0"] < 0.8
    pair = [{**row, "shot": row["kind"]} for row in target]
    with pytest.raises(ConfigError, match="kind has no class with two target records of different shot; give a number"):
        weigh({}, {"train": pair, "valid": pair, "source": target}, data={"workers": 0, "group": "shot"})


def test_a_given_weight_counts_as_it_would_if_all_records_were_in_one_batch():
    setup, _ = weigh({"weight": 0.3}, {"train": texts(10, 0), "valid": texts(4, 5), "source": texts(40, 1)})
    assert setup.datasets.source_weights is not None
    # a step has 4 records of each: of the target 4 of 10, of the source 4 of 40
    assert_close(setup.datasets.source_weights, np.full(40, 0.3 * 4))
    data = setup.datasets.training
    origins = [(data[0, row].origin, data[0, row].weight) for row in (0, 10)]
    assert origins == [(0, 1.0), (SOURCE, pytest.approx(1.2))]


def test_a_source_of_weight_zero_is_none(tmp_path):
    target, test = texts(12, 0), texts(12, 3)
    runs = {}
    for name, transfer, tables in (
        ("without", {}, {}),
        ("zero", {"source": {"weight": 0}}, {"source": [*texts(30, 1), {"text": "tea", "kind": "other"}]}),
    ):
        job = make_job({}).model_copy(update={"transfer": mm.Transfer.model_validate(transfer)})
        runs[name] = fit(job, train=target, test=test, **tables, out=tmp_path / name, cache=False)
    weights = [(run.folder / "model.safetensors").read_bytes() for run in runs.values()]
    assert weights[0] == weights[1]
    assert runs["zero"].metrics["tasks"] == runs["without"].metrics["tasks"]
    assert runs["zero"].metrics["source"] == {"method": "uniform", "weight": 0}


@pytest.mark.parametrize("method", ["density_ratio", "kmm"])
def test_source_records_that_look_like_the_target_count_more(method):
    target = [{**row, "text": row["text"] + 8 * " shop"} for row in texts(30, 0)]
    alike = [{**row, "text": row["text"] + 8 * " shop"} for row in texts(20, 1)]
    setup, said = weigh(
        {"weight": 1.0, "method": method}, {"train": target, "valid": target, "source": [*alike, *texts(20, 2)]}
    )
    weights = setup.datasets.source_weights
    assert weights is not None
    assert weights[:20].mean() > 1.5 * weights[20:].mean()
    assert 1 < setup.source_choice["effective_size"] < 40
    assert any(line.startswith("source: 40 weighted records count like") for line in said)


def test_without_target_labels_source_records_weigh_among_themselves(tmp_path):
    target = [{"text": f"{row['text']} shop"} for row in texts(30, 0)]
    tables = {"source": texts(40, 1), "source_valid": texts(6, 2), "unlabelled": target}
    setup, _ = weigh({"method": "density_ratio"}, tables)
    assert setup.datasets.source_weights is not None
    assert_close(setup.datasets.source_weights.mean(), 1.0)
    assert "weight" not in setup.source_choice
    run = fit(make_job({"method": "density_ratio"}), **tables, out=tmp_path / "run", cache=False)
    assert run.metrics["source"].keys() == {"method", "effective_size"}


def test_weights_that_leave_few_records_are_warned_of(monkeypatch):
    def one_counts(source: np.ndarray, target: np.ndarray) -> np.ndarray:
        return np.where(np.arange(len(source)) == 0, 1.0, 1e-6)

    monkeypatch.setattr("multimodal.job.source_weights.kernel_mean_matching", one_counts)
    _, said = weigh(
        {"weight": 1.0, "method": "kmm"}, {"train": texts(6, 0), "valid": texts(6, 3), "source": texts(40, 1)}
    )
    assert "warning: source: less than a tenth: the domains hardly overlap; set transfer.source.method: uniform" in said


def test_what_compares_source_and_target_leaves_with_a_source_of_weight_zero():
    tables = {"train": texts(6, 0), "valid": texts(6, 3), "source": texts(6, 1), "unlabelled": texts(6, 2)}
    for method, left in (("dann", None), ("entropy", 6)):
        transfer = {"source": {"weight": 0}, "adapt": {"method": method}}
        setup, _ = weigh({}, tables, transfer=transfer)
        assert setup.tables.source is None
        assert (None if setup.tables.unlabelled is None else len(setup.tables.unlabelled)) == left


def test_labels_that_choose_nothing_and_methods_that_do_not_scale_are_refused(monkeypatch):
    lonely = [{"text": "tea", "kind": "use"}, {"text": "yam", "kind": "eat"}]
    with pytest.raises(ConfigError, match="weight is auto, but kind has no class with two target records; give a num"):
        weigh({}, {"train": lonely, "valid": texts(4, 1), "source": texts(8, 1)})
    numbers = [{"text": row["text"], "kind": str(len(row["text"]))} for row in texts(8, 0)]
    with pytest.raises(ConfigError, match="weight is auto, but no task is a classification"):
        weigh({}, {"train": numbers, "source": numbers}, tasks={"kind": {"type": "regression"}})
    with pytest.raises(ConfigError, match=r"transfer.source.method: there are 2 source and 8 target records for 5 fol"):
        weigh({"method": "density_ratio"}, {"train": texts(8, 0), "valid": texts(4, 0), "source": lonely})
    monkeypatch.setattr("multimodal.job.source_weights.MOST_ROWS", 5)
    with pytest.raises(ConfigError, match="a table has 8 records; it takes 5 at most: set density_ratio"):
        weigh({"method": "kmm"}, {"train": texts(8, 0), "valid": texts(4, 0), "source": texts(8, 1)})


def test_a_source_record_that_cannot_be_read_is_named_or_left_out():
    source = [*texts(8, 1), {"text": 3, "kind": "eat"}]
    tables = {"train": texts(8, 0), "valid": texts(4, 0), "source": source}
    with pytest.raises(RecordError, match="records, row 9, column text: a text cannot be a int"):
        weigh({}, tables)
    setup, _ = weigh({"weight": "auto"}, tables, data={"workers": 0, "on_error": "skip"})
    assert "weight" in setup.source_choice


def test_of_large_tables_a_sample_chooses_the_same_weight(monkeypatch):
    tables = {"train": texts(16, 0), "valid": texts(4, 3), "source": texts(120, 1)}
    whole, _ = weigh({}, tables)
    monkeypatch.setattr("multimodal.job.source_weights.MOST_ROWS", 60)
    sample, _ = weigh({}, tables)
    assert list(sample.source_choice["scores"]) == list(whole.source_choice["scores"])
    assert sample.source_choice["weight"] > 0
