"""Maps of frozen tokens inside jobs: fitted before training, exported with the model."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from support.assertions import assert_close, changed
from support.interruption import KilledError, kill_at
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from torch import nn

import multimodal as mm
from encoders import registry
from encoders.base import Encoder
from encoders.preprocessing.text import TextPreprocessor
from export import Predictor
from export.predictor import flat_feed
from multimodal.config import ConfigError, parse_job
from multimodal.job import TrainingSetup
from multimodal.job.fitted_maps import fit_input_maps, fit_source_maps
from multimodal.job.kept_tokens import keep_tokens
from multimodal.job.source_weights import weight_source_records
from multimodal.records import RecordError, stack_inputs
from multimodal.run import Run
from multimodal.runtime.runtime import Runtime
from multimodal.splits.tables import read_tables
from multimodal.training import fit
from multimodal.transfer.maps.affine import AffineMap
from multimodal.transfer.maps.domain import fit_into_target
from multimodal.transfer.maps.pca import fit_pca

WIDTH, CPU = 6, torch.device("cpu")
NUMBERS = 40
"""Words a0, a1, ... are random vectors; b0, b1, ... the same, stretched and shifted: another dialect."""
RNG = np.random.default_rng(0)
VECTORS = RNG.normal(size=(NUMBERS, WIDTH))
STRETCH, SHIFT = np.array([4.0, 0.25, 2.0, 0.5, 3.0, 1.0]), np.array([9.0, 9.0, -9.0, 9.0, -9.0, 0.0])
LABELS = ["no" if value < 0 else "yes" for value in VECTORS @ np.array([1.0, 1.0, -1.0, 1.0, -1.0, 0.0])]


class Dialects(Encoder):
    """A token a word, of a fixed table."""

    def __init__(self, *, weights: str | None = None) -> None:
        super().__init__()
        words = ["[PAD]", "[UNK]", *(f"{kind}{i}" for kind in "ab" for i in range(NUMBERS))]
        tokenizer = Tokenizer(WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
        tokenizer.pre_tokenizer = Whitespace()
        self.modality, self.embed_dim = "text", WIDTH
        self.preprocessor = TextPreprocessor(tokenizer, max_tokens=4)
        table = np.concatenate([np.zeros((2, WIDTH)), VECTORS, VECTORS * STRETCH + SHIFT])
        self.embed = nn.Embedding.from_pretrained(torch.from_numpy(table).float(), freeze=False)

    def forward(self, inputs: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        return self.embed(inputs["input_ids"]), inputs["attention_mask"].bool()

    def depth_groups(self) -> list[list[nn.Parameter]]:
        return [list(self.parameters())]


@pytest.fixture(autouse=True)
def _encoder(monkeypatch):
    monkeypatch.setattr(registry.ENCODERS, "registered", {})
    mm.register_encoder("planted/dialects", modality="text", has_weights=True)(Dialects)


def rows(kind: str, *, flipped: bool = False) -> list[dict[str, str]]:
    other = {"no": "yes", "yes": "no"}
    return [{"text": f"{kind}{i}", "kind": other[label] if flipped else label} for i, label in enumerate(LABELS)]


def make_job(**changes: Any) -> mm.Job:
    values = {
        "data": {"workers": 0},
        "inputs": {"text": {"encoder": "planted/dialects", "augment": {"enabled": False}}},
        "fusion": {"name": "concat"},
        "tasks": {"kind": {}},
        "transfer": {"strategy": "linear_probe", "guard": "off"},
        "train": {"epochs": 15, "batch_size": 20, "learning_rate": 0.1},
    }
    return parse_job(changed(values, changes))


# --- of one input ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("head", ["linear", "softmax"])
def test_the_exported_job_is_its_head_folded_through_the_map(head, tmp_path):
    settings = {"method": "pca", "components": 4, "whiten": True}
    records = rows("b")
    chosen = make_job(**{"inputs.text.map": settings, "tasks.kind.head": head, "train.epochs": 2})
    pd.DataFrame(records).to_csv(tmp_path / "records.csv", index=False)  # a file, so that parity is seen on its records
    run = fit(
        chosen,
        train=tmp_path / "records.csv",
        valid=tmp_path / "records.csv",
        out=tmp_path / "run",
        cache=False,
    )
    again = Run(run.folder).model
    assert again.fusion.in_dims == {"text": 4}
    tokens = VECTORS * STRETCH + SHIFT
    pca = fit_pca(tokens, 4, whiten=True)
    assert_close(again.maps["text"].matrix, pca.matrix, "onnx")
    # concat divides by each record's deviation, so that only its centring folds
    centred = pca.then(AffineMap(np.eye(4) - 0.25, np.zeros(4)))
    linear = again.head("kind").linear
    weight, bias = (values.detach().double().numpy() for values in (linear.weight, linear.bias))
    folded, offset = centred.fold(weight, np.zeros(2))
    deviation = np.sqrt((centred.transform(tokens) ** 2).mean(axis=1) + 1e-5)
    logits = (tokens @ folded.T + offset) / deviation[:, None] + bias
    bundle = run.export(tmp_path / "bundle")
    feed = stack_inputs(run.readers, [{"text": run.readers["text"].read(row)} for row in records])
    answers = Predictor.load(bundle.folder).run(flat_feed(feed))["kind"]
    assert np.abs(answers - logits).max() < 1e-4


def test_it_sees_all_training_tables_and_each_of_attention_s_tokens_is_mapped():
    tables = {"train": rows("a"), "valid": rows("a")[:6], "source": rows("b")}
    changes = {"inputs.text.map": {"method": "standardise"}, "fusion": {"name": "attention", "dim": 8}}
    chosen = make_job(**changes, **{"transfer.source": {"weight": 1.0}})
    setup = TrainingSetup.build(chosen, read_tables(chosen, **tables), Path.cwd())
    setup = keep_tokens(setup, [], Runtime())
    fit_input_maps(setup)
    both = np.concatenate([VECTORS, VECTORS * STRETCH + SHIFT])
    mapped = setup.model.maps["text"](torch.from_numpy(both).float()[:, None])[:, 0]
    assert_close(mapped, (both - both.mean(axis=0)) / both.std(axis=0), "onnx")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"inputs.text.map": {"method": "pca"}}, "method pca needs components; give their number"),
        ({"inputs.text.map": {"method": "standardise", "whiten": True}}, "whiten belongs to method: pca, and"),
        (
            {"inputs.text.map": {"method": "standardise"}, "transfer.strategy": "finetune"},
            r"inputs.text.map: it is fitted before training, .* finetune may train text; set transfer.strategy: lin",
        ),
        ({"transfer.source": {"map": "coral", "components": 3}}, "components belongs to map: subspace_alignment"),
        (
            {"transfer.source": {"map": "coral"}, "transfer.strategy": "finetune"},
            "transfer.source.map is coral: it is fitted before training",
        ),
        ({"transfer.source": {"map": "coral"}, "fusion": {"name": "attention"}}, "fusion.name attention looks at each"),
        ({"transfer.source": {"map": "coral"}, "inputs.text.new_layers": 1}, "leave inputs.text.new_layers out"),
        (
            {
                "transfer.source": {"map": "subspace_alignment", "components": 3},
                "inputs.text.map": {"method": "standardise"},
            },
            "leaves the first components already; leave inputs.text.map out",
        ),
        (
            {
                "inputs.text.map": {"method": "standardise"},
                "tasks.kind": {"head": "zero_shot", "zero_shot": {"input": "text"}},
            },
            "tasks.kind.head is zero_shot, which compares the tokens of inputs.text",
        ),
    ],
)
def test_maps_of_what_moves_or_must_not_move_are_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        make_job(**changes)


def test_too_few_records_or_features_are_refused(tmp_path):
    few = [*rows("a")[:4], {"text": "a5", "kind": LABELS[5]}]
    chosen = make_job(**{"inputs.text.map": {"method": "pca", "components": 5}})
    with pytest.raises(ConfigError, match=r"inputs.text.map: components is 5; \[5, 6\] features have 1 to 4"):
        fit(chosen, train=few, valid=few, out=tmp_path / "few", cache=False)
    with pytest.raises(
        ConfigError, match=r"inputs.text.map: components is 7, but tokens have dimension 6; give at most 6"
    ):
        fit(
            make_job(**{"inputs.text.map": {"method": "pca", "components": 7}}),
            train=few,
            valid=few,
            out=tmp_path / "wide",
            cache=False,
        )
    unread = [*rows("a"), {"text": 3, "kind": "yes"}]
    with pytest.raises(RecordError, match="row 41, column text: a text cannot be a int"):
        fit(chosen, train=unread, valid=few, out=tmp_path / "unread", cache=False)


# --- of source records -------------------------------------------------------------------------------------------


def transductive(folder, source_map: str, *, flipped: bool = False, **changes: Any) -> Run:
    settings = {"map": source_map} | ({"components": 5} if source_map == "subspace_alignment" else {})
    source = rows("b", flipped=flipped)
    tables = {"source": source, "source_valid": source, "unlabelled": rows("a"), "test": rows("a")}
    chosen = make_job(**{"transfer.source": settings}, **changes)
    return fit(chosen, **tables, out=folder / f"{source_map}{flipped}", cache=False)


def accuracy(run: Run) -> float:
    return run.metrics["tasks"]["kind"]["accuracy"]["value"]


def test_a_map_repairs_another_dialect_and_not_other_labels(tmp_path):
    def trained_on(kind: str) -> float:
        tables = {"train": rows(kind), "valid": rows(kind), "test": rows("a")}
        return accuracy(fit(make_job(), **tables, out=tmp_path / f"on_{kind}", cache=False))

    unmoved, target = trained_on("b"), trained_on("a")
    assert unmoved < target - 0.3
    for method, lost in (("coral", 0.1), ("standardise", 0.1), ("subspace_alignment", 0.2)):  # alignment: a component
        moved = transductive(tmp_path, method)
        assert accuracy(moved) > target - lost, method
        assert moved.metrics["source"] == {"method": "uniform", "map": method}
        assert set(moved.model.maps) == ({"text"} if method == "subspace_alignment" else set())
        assert accuracy(transductive(tmp_path, method, flipped=True)) < 0.3, method


def test_a_killed_run_with_both_kinds_of_maps_resumes_to_the_same_bytes(tmp_path, monkeypatch):
    source, valid = rows("b"), rows("b")[:8]
    tables = {"source": source, "source_valid": valid, "unlabelled": rows("a")}
    changes = {"transfer.source": {"map": "coral"}, "inputs.text.map": {"method": "pca", "components": 4}}
    chosen = make_job(**changes, **{"train.epochs": 2, "train.checkpoint_steps": 1})
    whole = fit(chosen, **tables, out=tmp_path / "whole", cache=False)
    with monkeypatch.context() as patched:
        kill_at(patched, 3)
        with pytest.raises(KilledError):
            fit(chosen, **tables, out=tmp_path / "killed", cache=False)
    again = fit(chosen, **tables, out=tmp_path / "killed", cache=False, resume=True)
    weights = [(run.folder / "model.safetensors").read_bytes() for run in (whole, again)]
    assert weights[0] == weights[1]


def test_a_weight_of_zero_leaves_the_target_s_components(tmp_path):
    settings = {"map": "subspace_alignment", "components": 3, "weight": 0}
    tables = {"train": rows("a"), "valid": rows("a"), "source": rows("b")}
    run = fit(
        make_job(**{"transfer.source": settings, "train.epochs": 1}),
        **tables,
        out=tmp_path / "run",
        cache=False,
    )
    expected = fit_into_target(VECTORS, VECTORS, "subspace_alignment", components=3).target
    assert_close(run.model.maps["text"].matrix, expected.matrix, "onnx")


def inductive(source: list[dict[str, str]], source_map: str) -> TrainingSetup:
    chosen = make_job(**{"transfer.source": {"map": source_map, "weight": "auto"}})
    tables = {"train": rows("a")[:20], "valid": rows("a")[20:], "source": source}
    setup = TrainingSetup.build(chosen, read_tables(chosen, **tables), Path.cwd())
    setup = fit_source_maps(setup, Runtime())
    return weight_source_records(setup, Path.cwd(), Runtime())


def test_the_choice_of_the_weight_sees_the_source_moved():
    scores = {name: inductive(rows("b"), name).source_choice["scores"]["1"] for name in ("none", "standardise")}
    assert scores["standardise"] > scores["none"]


def test_beside_target_labels_the_source_trains_moved_and_target_records_stay():
    setup = inductive(rows("b"), "standardise")
    data = keep_tokens(setup, [], Runtime()).datasets.training
    target, source = (data[0, row].inputs["text"][0]["tokens"][0] for row in (0, 20))
    assert_close(target, VECTORS[0].astype(np.float32))
    there, here = VECTORS * STRETCH + SHIFT, VECTORS[:20]
    expected = (there[0] - there.mean(axis=0)) / there.std(axis=0) * here.std(axis=0) + here.mean(axis=0)
    assert_close(source, expected.astype(np.float32), "float32")


def test_a_source_that_no_record_has_is_refused():
    source = [{"text": None, "kind": label} for label in LABELS]
    with pytest.raises(ConfigError, match=r"transfer.source.map is coral, of inputs.text: no record has it"):
        inductive(source, "coral")
