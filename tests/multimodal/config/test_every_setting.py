"""Every setting changes something that a training goes by, or is refused where nothing would read it."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple, get_args

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from support.assertions import changed
from support.tiny_pretrained import plant, write_shop

from multimodal.builders.encoders import build_views
from multimodal.builders.training import (
    build_objectives,
    build_strategy,
    build_trackers,
    build_trainer_options,
    plan_training,
)
from multimodal.config import Job, Task
from multimodal.config.section import Section
from multimodal.decoding import Decoding
from multimodal.job import TrainingSetup
from multimodal.job.adapting import add_adaptation
from multimodal.job.run_folder import free_folder
from multimodal.metrics import selection_score
from multimodal.plugins import TRACKERS, register_tracker
from multimodal.runtime.runtime import Runtime
from multimodal.selection.candidates import find_candidates
from multimodal.selection.guard import guard_run
from multimodal.splits.tables import open_job, read_tables
from multimodal.trainer.weight_averaging import build_averaging

JOB: dict[str, Any] = {
    "data": {"train": "train.csv", "valid": "valid.csv", "workers": 0},
    "inputs": {"image": {"encoder": "planted/picture"}, "text": {"encoder": "planted/words"}},
    "fusion": {"name": "concat", "dim": 8},
    "tasks": {"color": {}, "price": {"type": "regression"}},
    "transfer": {"strategy": "finetune"},
    "train": {"epochs": 4, "batch_size": 8},
}
NAMES = {"color": {"head": "zero_shot", "zero_shot": {"labels": ["red", "sky-blue"], "input": "image"}}}
BASES: dict[str, dict[str, Any]] = {
    "job": {},
    "held out": {"data.valid": None},
    "candidates": {"inputs.text.candidates": [{"encoder": "planted/words"}]},
    "audio": {"inputs": {"audio": {"encoder": "compact/audio", "weights": None}}, "tasks": {"color": {}}},
    "frozen": {"inputs.text.frozen": True, "fusion": {"name": "concat"}, "tasks": {"color": {"inputs": ["text"]}}},
    "mapped": {"inputs.text": {"encoder": "planted/words", "frozen": True, "map": {"method": "pca", "components": 4}}},
    "scaled": {"inputs.text": {"encoder": "planted/words", "frozen": True, "map": {"method": "standardise"}}},
    "attention": {"fusion": {"name": "attention", "dim": 8, "num_heads": 2, "num_queries": 2}},
    "tags": {"tasks.color.type": "multilabel"},
    "two": {"tasks": {"fresh": {}}},
    "fitted": {"tasks": {"fresh": {"threshold": "auto", "costs": {"false_positive": 2.0}}}},
    "vector": {"tasks": {"color": {"type": "embedding"}}, "fusion": {"name": "concat"}},
    "names": {"tasks": NAMES, "inputs.other": {"encoder": "planted/picture"}},
    "uncertainty": {"train.task_weighting": "uncertainty"},
    "number": {"tasks": {"price": {"type": "regression"}}},
    "probe": {"transfer.strategy": "probe_then_finetune"},
    "decay": {"transfer.strategy": "layerwise_lr_decay"},
    "two phases": {"transfer.strategy": "two_phase"},
    "lora": {"transfer.strategy": "lora"},
    "sgd": {"train.optimizer": "sgd"},
    "tracked": {"train.trackers": [{"name": "tests/one"}]},
    "wise_ft": {"transfer": {"strategy": "probe_then_finetune", "average": "wise_ft"}},
    "soup": {"transfer.average": "soup"},
    "ema": {"transfer.average": "ema"},
    "source": {"data.source": "source.csv", "transfer.source": {"weight": 1}},
    "adapted": {"data.source": "source.csv", "data.unlabelled": "source.csv", "transfer.source": {"weight": 1},
                "transfer.adapt": {"method": "dann"}},
    "no labels": {"data": {"source": "source.csv", "unlabelled": "source.csv"}, "transfer.adapt": {"method": "dann"}},
    "ratios": {"data": {"source": "source.csv", "unlabelled": "source.csv"},
               "transfer.source": {"method": "density_ratio"}},
}  # fmt: skip
"""Name -> changes to ``JOB``."""


class Case(NamedTuple):
    """A value of a setting, which is seen in what is built, or refused."""

    base: str
    value: Any
    refused: str | None = None


CASES: dict[str, Case] = {
    "name": Case("job", "other"),
    "data.train": Case("job", "source.csv"),
    "data.valid": Case("job", "source.csv"),
    "data.test": Case("job", "source.csv"),
    "data.source": Case("job", "source.csv", "data.source is read by transfer.source, which is not set"),
    "data.source_valid": Case("job", "source.csv", "data.source_valid chooses where there are no target labels"),
    "data.unlabelled": Case("job", "source.csv", "data.unlabelled is read by transfer.adapt"),
    "data.group": Case("held out", "color"),
    "data.on_error": Case("job", "skip"),
    "data.allow_outside": Case("job", True),
    "data.workers": Case("job", 3),
    "inputs.text.column": Case("job", "color"),
    "inputs.text.modality": Case("job", "image", "modality is 'image', but its encoder planted/words reads 'text'"),
    "inputs.text.encoder": Case("job", "planted/small"),
    "inputs.text.weights": Case("job", None),
    "inputs.text.share": Case("job", "image", "give either `encoder`, or `share` with the name of another input"),
    "inputs.text.frozen": Case("job", True),
    "inputs.text.learning_rate_scale": Case("job", 0.5),
    "inputs.image.options": Case("job", {"norm": "group"}),
    "inputs.text.new_layers": Case("job", 1),
    "inputs.text.candidates.0.encoder": Case("candidates", "planted/small"),
    "inputs.text.candidates.0.weights": Case("candidates", None),
    "inputs.text.candidates.0.options": Case("candidates", {"norm": "group"}),
    "inputs.text.augment.enabled": Case("job", False),
    **{f"inputs.image.augment.{key}": Case("job", 0) for key in ("crop", "flip", "color", "rotation")},
    "inputs.text.augment.token_dropout": Case("job", 0.9),
    **{f"inputs.audio.augment.{key}": Case("audio", 0) for key in ("shift", "gain", "noise", "speed")},
    **{f"inputs.audio.augment.{key}": Case("audio", 0) for key in ("time_mask", "frequency_mask")},
    "inputs.text.map.method": Case("mapped", "standardise", "components belongs to method: pca, and method is stand"),
    "inputs.text.map.components": Case("mapped", 3),
    "inputs.text.map.whiten": Case("scaled", True, "whiten belongs to method: pca, and method is standardise"),
    "fusion.name": Case("job", "gated"),
    "fusion.dim": Case("job", 12),
    "fusion.dropout": Case("job", 0.4),
    "fusion.num_queries": Case("attention", 3),
    "fusion.num_heads": Case("attention", 3, "num_heads must divide dim"),
    "fusion.modality_dropout": Case("job", 0.3),
    "fusion.unimodal_weight": Case("job", 0.3),
    "fusion.options": Case("job", {"rank": 2}, "options belongs to name: a registered fusion of your own, and name is"),
    "tasks.color.type": Case("job", "multilabel"),
    "tasks.color.column": Case("job", "text"),
    "tasks.color.inputs": Case("job", ["text"]),
    "tasks.color.weight": Case("uncertainty", 0.5),
    "tasks.color.tower": Case("job", [6]),
    "tasks.color.label_smoothing": Case("job", 0.1),
    "tasks.color.imbalance": Case("job", "balanced_sampler"),
    "tasks.color.head": Case("frozen", "knn"),
    "tasks.color.threshold": Case("tags", 0.3),
    "tasks.fresh.threshold": Case("two", 0.3),
    "tasks.fresh.positive": Case("two", "no"),
    "tasks.fresh.costs.false_positive": Case("fitted", 0.1),
    "tasks.fresh.costs.false_negative": Case("fitted", 9.0),
    "tasks.color.min_probability": Case("job", 0.7),
    "tasks.color.options": Case("job", {"a": 1}, "options: unknown key 'a'; classification has none"),
    "tasks.price.unit": Case("job", "EUR"),
    "tasks.color.width": Case("vector", 16),
    "tasks.color.loss": Case("vector", "supcon"),
    "tasks.color.margin": Case("vector", 0.2),
    "tasks.color.temperature": Case("vector", 0.2),
    "tasks.color.records_per_label": Case("vector", 2),
    "tasks.color.zero_shot.input": Case("names", "other"),
    "tasks.color.zero_shot.prompts": Case("names", ["a {}"]),
    "tasks.color.zero_shot.labels": Case("names", None),
    "tasks.color.zero_shot.words": Case("names", {"red": "scarlet"}),
    "tasks.color.zero_shot.source": Case("job", "run", "zero_shot belongs to head: zero_shot, and head is linear"),
    "tasks.color.zero_shot.pull": Case("job", 0.1, "zero_shot belongs to head: zero_shot, and head is linear"),
    "transfer.strategy": Case("job", "linear_probe"),
    "transfer.probe_epochs": Case("probe", 2),
    "transfer.unfreeze_from": Case("job", 1),
    "transfer.options": Case("job", {"a": 1}, "options belongs to strategy: a registered strategy of your own, and"),
    "transfer.encoder_scale": Case("job", 0.7),
    "transfer.layer_decay": Case("decay", 0.3),
    "transfer.views": Case("job", 3),
    "transfer.guard": Case("number", "off"),
    "transfer.l2_sp": Case("job", 0.1),
    "transfer.distill": Case("job", 0.1),
    "transfer.average": Case("job", "ema"),
    "transfer.wise_ft_shares": Case("wise_ft", [0, 0.5, 1]),
    "transfer.soup_size": Case("soup", 2),
    "transfer.ema_decay": Case("ema", 0.5),
    "transfer.lora.rank": Case("lora", 2),
    "transfer.lora.alpha": Case("lora", 2.0),
    "transfer.lora.dropout": Case("lora", 0.2),
    "transfer.lora.targets": Case("lora", {"text": ["project"]}),
    "transfer.two_phase.learning_rate": Case("two phases", 1e-3),
    "transfer.two_phase.momentum": Case("two phases", 0.5),
    "transfer.source.weight": Case("no labels", 0.3, "transfer.source.weight is beside a target record, and without"),
    "transfer.source.method": Case("ratios", "uniform", "transfer.source.method is uniform, which changes nothing"),
    "transfer.source.map": Case("source", "coral", "transfer.source.map is coral: it is fitted before training"),
    "transfer.source.components": Case("source", 3, "components belongs to map: subspace_alignment, and map is none"),
    "transfer.adapt.method": Case("adapted", "mmd"),
    "transfer.adapt.weight": Case("adapted", 2.0),
    "transfer.adapt.on": Case("adapted", ["text"]),
    "transfer.adapt.threshold": Case("adapted", 0.5, "threshold belongs to method: pseudo_labels, and method is dann"),
    "transfer.adapt.hidden_dim": Case("adapted", 8),
    "train.epochs": Case("job", 5),
    "train.batch_size": Case("job", 4),
    "train.accumulate": Case("job", 2),
    "train.learning_rate": Case("job", 0.5),
    "train.optimizer": Case("job", "sgd"),
    "train.weight_decay": Case("job", 0.5),
    "train.momentum": Case("sgd", 0.5),
    "train.warmup": Case("job", 0.5),
    "train.clip_norm": Case("job", None),
    "train.precision": Case("job", "bf16"),
    "train.seed": Case("job", 3),
    "train.patience": Case("job", 3),
    "train.metric": Case("job", "price.rmse"),
    "train.task_weighting": Case("job", "pcgrad"),
    "train.gradient_cosine": Case("job", False),
    "train.checkpoint_steps": Case("job", 5),
    "train.trackers.0.name": Case("tracked", "tests/other"),
    "train.trackers.0.options": Case("tracked", {"rate": 2}),
    "train.device": Case("job", "tpu", "is 'tpu'; input should be 'auto', 'cpu' or 'cuda'"),
}


# --- the table has every setting ---------------------------------------------------------------------------------


def settings(section: type[Section] = Job) -> Iterator[str]:
    """Section.key of every setting that holds no section itself."""
    for key, field in section.model_fields.items():
        parts = list(sections(field.annotation))
        for part in parts:
            yield from settings(part)
        if not parts:
            yield f"{section.__name__}.{key}"


def sections(annotation: Any) -> Iterator[type[Section]]:
    """The sections in a type."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        yield annotation
    for part in get_args(annotation):
        yield from sections(part)


def setting_at(place: str) -> str:
    """Section.key of a place in a job, whose other parts are names and numbers."""
    section: type[Section] = Job
    *parents, key = place.split(".")
    for parent in parents:
        if parent in section.model_fields:
            (section,) = sections(section.model_fields[parent].annotation)
    return f"{section.__name__}.{key}"


def test_every_setting_has_a_case():
    assert {setting_at(place) for place in CASES} == {*settings()}


# --- what a training goes by -------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def _planted_encoders(monkeypatch):
    plant(monkeypatch)
    monkeypatch.setattr(TRACKERS, "registered", {})
    for name in ("tests/one", "tests/other"):
        register_tracker(name)(type(name, (SimpleNamespace,), {}))


@pytest.fixture(scope="module")
def shop(tmp_path_factory) -> Path:
    """Tables of a target and of a source, with pictures, texts and noise."""
    folder = write_shop(tmp_path_factory.mktemp("shop"))
    tables = {name: pd.read_csv(folder / f"{name}.csv") for name in ("train", "valid")}
    tables["source"] = tables["train"].head(10)
    for name, table in tables.items():
        rows = range(len(table))
        added = {"audio": [f"{row}.wav" for row in rows], "fresh": [("no", "yes")[row % 2] for row in rows]}
        table.assign(**added).to_csv(folder / f"{name}.csv", index=False)
    for row, noise in enumerate(np.random.default_rng(0).normal(0, 0.1, (len(tables["train"]), 4000))):
        soundfile.write(folder / f"{row}.wav", noise, 8000)
    return folder


def with_value(values: dict[str, Any], place: str, value: Any) -> dict[str, Any]:
    """A copy with a value at a place, of which a number is a place in a list."""
    copied = changed(values, {})
    *parents, last = place.split(".")
    node: Any = copied
    for parent in parents:
        node = node[int(parent)] if parent.isdigit() else node.setdefault(parent, {})
    node[last] = value
    return copied


def seen(values: dict[str, Any], folder: Path) -> dict[str, str]:
    """What a training of a job goes by."""
    (folder / "job.yaml").write_text(json.dumps(values))
    job, base = open_job(folder / "job.yaml", [], {})
    tables = read_tables(job)
    found: dict[str, Any] = {
        "folder": free_folder(Path("runs") / job.name),
        "tables": [(table.rows, table.allow_outside) for table in tables.all()],
        "split": (tables.held_out, tables.setting),
        "columns": job.needed_columns(),
        "texts": [task.zero_shot.texts("red") for task in job.tasks.values()],
        "compared": [job.zero_shot_input(name) for name, task in job.tasks.items() if task.head == "zero_shot"],
        "candidates": [find_candidates(name, entry, base) for name, entry in job.inputs.items() if entry.candidates],
    }
    if not found["compared"]:  # no encoder here is aligned with texts
        setup = TrainingSetup.build(job, tables, base)
        found |= built(setup) | planned(setup)
        if not any(task.type == "classification" for task in job.tasks.values()):  # else it would measure
            found["guard"] = guard_run(setup, folder, folder, Runtime())
    return {name: str(value) for name, value in found.items()}


def built(setup: TrainingSetup) -> dict[str, Any]:
    """Of what the job's records and model are."""
    job, model, data = setup.job, setup.model, setup.datasets.training
    samples = [data[epoch, row] for epoch in range(2) for row in range(4)]
    arrays = [array for sample in samples for inputs, _ in sample.inputs.values() for array in inputs.values()]
    values = {"accuracy": 0.5, "macro_f1": 0.4, "r2": 0.1, "rmse": 2.0, "map": 0.3}
    metrics = {name: {metric: {"value": value} for metric, value in values.items()} for name in job.tasks}
    return {
        "model": (model, model.modality_dropout, model.reads, model.unimodal.weight),
        "weights": [digest(tensor.numpy()) for tensor in model.state_dict().values()],
        "encoders": [(encoder.name, vars(encoder.provenance)) for encoder in setup.encoders.values()],
        "heads": (setup.heads, [vars(head) for head in model.heads.values()], setup.validator.decodings()),
        "thresholds": [thresholds(job.tasks[name], one) for name, one in setup.validator.decodings().items()],
        "targets": setup.datasets.targets,
        "columns": [reader.column for reader in setup.datasets.readers.values()],
        "samples": [digest(array) for array in arrays],
        "order": [[block.tolist() for block in step] for step in setup.order.blocks(0)],
        "options": build_trainer_options(job, torch.device("cpu")),
        "loader": (setup.loader.accumulate, setup.loader.workers),
        "views": [one.count for one in build_views(job, setup.encoders).values()],
        "score": selection_score(metrics, job.train.metric, {name: task.kind for name, task in job.tasks.items()}),
        "trackers": build_trackers(job),
    }


def thresholds(task: Task, decoding: Decoding) -> Decoding | None:
    """The decoding with thresholds that are fitted to some records of two classes."""
    if task.threshold != "auto":
        return None
    first = np.linspace(0.9, 0.1, 9)
    scores, targets = np.stack([first, 1 - first], axis=1), np.array([0, 0, 1, 0, 1, 0, 1, 1, 0])
    return task.kind.with_thresholds(decoding, task, scores, targets)


def planned(setup: TrainingSetup) -> dict[str, Any]:
    """Of how it trains."""
    task = setup.job.model_copy(update={"transfer": setup.choice.transfer})
    strategy = build_strategy(task, setup.model)
    setup.model.objectives.update(build_objectives(task, setup.model))
    add_adaptation(setup, 1)
    # low-rank parts need an extra
    phases = [] if task.transfer.strategy == "lora" else plan_training(task, setup.model, strategy)
    averaging = build_averaging(task.transfer, Path("unused"), len(phases), writes=False)
    return {
        "strategy": strategy,
        "phases": phases,
        "averaging": averaging and (type(averaging), vars(averaging)),
        "objectives": [(name, one, plain(one)) for name, one in setup.model.objectives.items()],
    }


def digest(array: np.ndarray) -> str:
    return hashlib.sha256(array.tobytes()).hexdigest()


def plain(objective: torch.nn.Module) -> dict[str, Any]:
    """The numbers and names that it holds."""
    held = {key: value for key, value in vars(objective).items() if isinstance(value, float | tuple | list)}
    return held | {key: value.tolist() for key, value in objective.named_buffers()}


@pytest.fixture(scope="module")
def bases() -> dict[str, dict[str, str]]:
    """Base -> what is seen of it, of those that were looked at."""
    return {}


@pytest.mark.parametrize("base", BASES)
def test_two_looks_at_a_job_see_the_same(base, shop, bases):
    values = changed(JOB, BASES[base])
    assert bases.setdefault(base, seen(values, shop)) == seen(values, shop)


@pytest.mark.parametrize("place", CASES)
def test_a_setting_is_seen_or_refused(place, shop, bases):
    base, value, message = CASES[place]
    values = changed(JOB, BASES[base])
    if base not in bases:
        bases[base] = seen(values, shop)
    if message is None:
        assert seen(with_value(values, place, value), shop) != bases[base]
    else:
        with pytest.raises(ValueError, match=message):
            seen(with_value(values, place, value), shop)
