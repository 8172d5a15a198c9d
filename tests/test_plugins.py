"""A distribution that brings one part of each kind: used by name, trained, exported, and asked for where it is not."""

import importlib
import json
import sys

import pytest
from support.documents import ROOT, blocks

import multimodal as mm
from encoders.preprocessing.registry import PREPROCESSORS
from encoders.registry import ENCODERS
from fusion.registry import FUSIONS
from fusion.testing import check_fusion
from multimodal.config import ConfigError, parse_job
from multimodal.plugins import STRATEGIES, TRACKERS, require_plugins
from multimodal.task_types import TASK_TYPES

ENTRY_POINTS = """
[multimodal.encoders]
acme/letters = acme_parts.torch_parts:Letters
[multimodal.preprocessors]
acme/counts = acme_parts.counts:Counts
[multimodal.fusions]
acme/sum = acme_parts.torch_parts:SumFusion
[multimodal.strategies]
acme/warm = acme_parts.torch_parts:Warm
[multimodal.trackers]
acme/lines = acme_parts.torch_parts:Lines
"""
COUNTS = '''
import numpy as np
from encoders.preprocessing import TensorSpec, stack_arrays


class Counts:
    """How often each letter of ``letters`` is in a text."""

    modality = "text"

    def __init__(self, letters):
        self.letters = letters
        self.tensors = (TensorSpec("counts", "float32", ("batch", len(letters))),)

    def __call__(self, raw):
        return {"counts": np.array([raw.count(letter) for letter in self.letters], np.float32)}

    def blank(self):
        return {"counts": np.zeros(len(self.letters), np.float32)}

    def stack(self, samples):
        return stack_arrays(samples, self.tensors, {})

    def to_config(self):
        return {"kind": "acme/counts", "letters": self.letters}

    @classmethod
    def from_config(cls, config, assets):
        return cls(config["letters"])
'''
TORCH_PARTS = """
import json
from dataclasses import dataclass

import multimodal as mm
import torch
from acme_parts.counts import Counts
from multimodal.transfer.plan import EncoderPolicy, encoder_groups, head_groups
from torch import nn


class Letters(mm.Encoder):
    def __init__(self, letters="abcdefghijklmnopqrstuvwxyz"):
        super().__init__()
        self.modality, self.embed_dim, self.preprocessor = "text", 8, Counts(letters)
        self.linear = nn.Linear(len(letters), 8)

    def forward(self, inputs):
        counts = inputs["counts"]
        return self.linear(counts)[:, None], torch.ones_like(counts[:, :1], dtype=torch.bool)

    def depth_groups(self):
        return [list(self.parameters())]


class SumFusion(mm.FusionModule):
    uses_mean_token_only = False

    def __init__(self, in_dims, out_dim=4, *, gain=1.0):
        super().__init__(in_dims)
        self.out_dim, self.gain = out_dim, gain
        self.parts = nn.ModuleList(nn.Linear(dim, out_dim) for dim in in_dims.values())

    def fuse(self, tokens, masks):
        pairs = zip(self.parts, self.in_dims, strict=True)
        return self.gain * sum((part(tokens[name]) * masks[name][..., None]).sum(dim=1) for part, name in pairs)


@dataclass(frozen=True)
class Warm(mm.TransferStrategy):
    policy: EncoderPolicy
    warm: int = 1

    def plan(self, model, epochs):
        heads, rest = head_groups(model), encoder_groups(model, self.policy)
        first = min(self.warm, epochs - 1)
        phases = [mm.Phase("warm", first, heads)] if first else []
        return [*phases, mm.Phase("all", epochs - first, heads + rest)]


class Lines(mm.Tracker):
    def __init__(self, last=100):
        self.last = last

    def _write(self, **line):
        with self.file.open("a") as file:
            file.write(json.dumps(line) + "\\n")

    def on_start(self, job, folder):
        self.file = folder.parent / "lines.jsonl"
        self._write(job=job.name)

    def on_epoch(self, metrics):
        self._write(epoch=metrics["epoch"], loss=metrics["loss"])
        return metrics["epoch"] >= self.last

    def on_end(self, summary):
        self._write(epochs=summary["epochs"])
"""
JOB = {
    "name": "fruit",
    "data": {"workers": 0},
    "inputs": {"text": {"encoder": "acme/letters", "modality": "text", "options": {"letters": "aeiouplmng"}}},
    "fusion": {"name": "acme/sum", "dim": 6, "options": {"gain": 2.0}},
    "tasks": {"kind": {}},
    "transfer": {"strategy": "acme/warm", "options": {"warm": 1}, "guard": "off"},
    "train": {"epochs": 6, "batch_size": 4, "trackers": [{"name": "acme/lines", "options": {"last": 3}}]},
}
ROWS = [{"text": text, "kind": kind} for text, kind in (("apple", "a"), ("plum", "p"), ("mango", "a"), ("lemon", "p"))]
REGISTRIES = (ENCODERS, PREPROCESSORS, FUSIONS, STRATEGIES, TRACKERS)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A folder like that of an installed distribution."""
    folder = tmp_path_factory.mktemp("site")
    info = folder / "acme_parts-1.0.dist-info"
    for path, text in (
        (info / "METADATA", "Metadata-Version: 2.1\nName: acme-parts\nVersion: 1.0\n"),
        (info / "entry_points.txt", ENTRY_POINTS),
        (folder / "acme_parts" / "__init__.py", ""),
        (folder / "acme_parts" / "counts.py", COUNTS),
        (folder / "acme_parts" / "torch_parts.py", TORCH_PARTS),
    ):
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return folder


@pytest.fixture
def installed(site, monkeypatch):
    """The distribution is installed, and nothing of it is imported."""
    monkeypatch.syspath_prepend(str(site))
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] == "acme_parts"]:
        del sys.modules[name]


def test_parts_are_listed_by_name_without_being_imported(installed):
    job = parse_job(JOB)
    assert [registry.find(name).owner for registry, name in zip(REGISTRIES, names(), strict=True)] == ["acme-parts"] * 5
    assert parse_job({**JOB, "train": {"trackers": ["acme/lines"]}}).train.trackers == [mm.Tracking(name="acme/lines")]
    assert (job.fusion.name, job.transfer.strategy) == ("acme/sum", "acme/warm")
    assert not any(name.startswith("acme_parts") for name in sys.modules)


def names():
    return ("acme/letters", "acme/counts", "acme/sum", "acme/warm", "acme/lines")


def test_every_part_keeps_its_contract(installed):
    parts = importlib.import_module("acme_parts.torch_parts")
    mm.check_encoder(mm.create_encoder("acme/letters"), export=False)
    mm.check_preprocessor(parts.Counts("abc"), samples=["a", "bb", "cab"])
    mm.check_fusion(parts.SumFusion, export=False)
    mm.check_strategy(parts.Warm)


@pytest.mark.slow
def test_a_job_of_plug_ins_is_trained_exported_and_loaded_where_they_are_installed(site, monkeypatch, tmp_path):
    with monkeypatch.context() as context:
        context.syspath_prepend(str(site))
        run = mm.fit(parse_job(JOB), train=ROWS, valid=ROWS, out=tmp_path / "run", cache=False)
        lines = [json.loads(line) for line in (tmp_path / "lines.jsonl").read_text().splitlines()]
        assert lines[0] == {"job": "fruit"}
        assert [line["epoch"] for line in lines[1:-1]] == [1, 2, 3]  # the tracker ends the training
        assert lines[-1] == {"epochs": 3}
        assert (run.model.fusion.gain, run.model.fusion.out_dim) == (2.0, 6)
        mm.export_bundle(run, tmp_path / "bundle")
        predictor = mm.Predictor.load(tmp_path / "bundle", allow_plugins=("acme/counts",))
        (label,) = {prediction["kind"].label for prediction in predictor.predict([{"text": "apple"}])}
        assert label in ("a", "p")
        with pytest.raises(LookupError, match=r"'acme/counts' .*'acme-parts', which .*allow_plugins=\('acme/cou"):
            mm.Predictor.load(tmp_path / "bundle")
    with pytest.raises(mm.RunError, match="the encoder 'acme/letters' is not installed; run: pip install acme-parts"):
        mm.Run(tmp_path / "run")
    with pytest.raises(LookupError, match="'acme/counts' is not installed; run: pip install acme-parts"):
        mm.Predictor.load(tmp_path / "bundle", allow_plugins=("acme/counts",))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fusion": {"name": "acme/sun"}}, r"fusion.name: there is no fusion 'acme/sun'; did you mean acme/sum\?"),
        (
            {"transfer": {"strategy": "acme/war"}},
            r"transfer.strategy: there is no strategy 'acme/war'; did you mean",
        ),
        (
            {"train": {"trackers": ["acme/line"]}},
            r"trackers.0.name: there is no tracker 'acme/line'; did you mean",
        ),
        ({"transfer": {"strategy": "acme/warm", "layer_decay": 0.5}}, "layer_decay belongs to strategy: layerwise"),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest(changes, message, installed):
    with pytest.raises(ConfigError, match=message):
        parse_job({**JOB, **changes})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"fusion": {"name": "acme/sum", "options": {"gian": 2}}},
            "fusion: the fusion 'acme/sum' takes no gian, only",
        ),
        (
            {"transfer": {"strategy": "acme/warm", "options": {"cold": 2}}},
            "transfer: the strategy .*'cold'",
        ),
        ({"train": {"trackers": [{"name": "acme/lines", "options": {"x": 1}}]}}, "train.trackers: 'acme/lines' .*'x'"),
    ],
)
def test_an_option_that_a_part_refuses_is_an_error_of_the_config(changes, message, installed, tmp_path):
    with pytest.raises(ConfigError, match=message):
        mm.fit(parse_job({**JOB, **changes}), train=ROWS, valid=ROWS, out=tmp_path / "run", cache=False)


def test_a_registered_class_stands_for_its_name_and_another_object_is_refused(monkeypatch):
    monkeypatch.setattr(FUSIONS, "registered", {})

    @mm.register_fusion("mine/other")
    class Other(mm.FusionModule):
        pass

    class Unknown(mm.FusionModule):
        pass

    assert mm.Fusion(name=Other).name == "mine/other"
    assert mm.Transfer(strategy=STRATEGIES.load("finetune")).strategy == "finetune"
    with pytest.raises(ValueError, match=r"Unknown is not registered, and a config holds names; decorate it"):
        mm.Fusion(name=Unknown)
    with pytest.raises(ValueError, match="is an object, and a config holds names; give its class, and its arguments"):
        mm.Transfer(strategy=STRATEGIES.load("finetune")())


def test_a_run_with_a_decorated_part_names_the_module_to_import():
    plugin = {"kind": "fusion", "name": "mine/gone", "distribution": None, "path": "my_parts:Gone"}
    with pytest.raises(LookupError, match=r"'mine/gone' is not registered; import its module first \(my_parts:Gone\)"):
        require_plugins([plugin])


@pytest.mark.parametrize("number", range(5))
def test_the_examples_of_the_page_run_and_are_short(number, monkeypatch):
    for registry in (*REGISTRIES, TASK_TYPES):
        monkeypatch.setattr(registry, "registered", {})
    examples = blocks(ROOT / "docs" / "plugins.md", "python")
    assert len(examples) == 5
    assert len([line for line in examples[number].splitlines() if line]) <= 20
    monkeypatch.setattr(mm, "check_fusion", lambda build: check_fusion(build, export=False))
    names = {"__name__": "example"}
    exec(compile(examples[number], "plugins.md", "exec"), names)
    if "Counts" in names:
        mm.check_preprocessor(names["Counts"]("abc"), samples=["a cab", "b"])
