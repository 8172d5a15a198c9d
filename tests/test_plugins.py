"""A distribution that brings one part of each kind: used by name, trained, exported, and asked for where it is not."""

import csv
import importlib
import json
import os
import re
import shutil
import subprocess
import sys
from functools import partial

import numpy as np
import pytest
import torch
from support.documents import ROOT, blocks
from support.server_process import Running
from support.waiting import wait_until
from typer.testing import CliRunner

import multimodal as mm
from encoders.preprocessing.registry import PREPROCESSORS
from encoders.registry import ENCODERS
from fusion.registry import FUSIONS
from fusion.testing import check_fusion
from multimodal.cli import app
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
[multimodal.task_types]
acme/stars = acme_parts.stars:Stars
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
STARS = '''
from dataclasses import dataclass
from typing import ClassVar

import multimodal as mm
import numpy as np
from multimodal.metrics.task_metrics import classification_metrics


@dataclass(frozen=True)
class StarsPrediction(mm.Prediction):
    stars: int = 0


@dataclass(frozen=True)
class Passed(mm.Decoding):
    """The level above every threshold that is passed: an output for each but the lowest level."""

    levels: tuple[str, ...]
    kind: ClassVar[str] = "acme_passed"
    columns: ClassVar = {"": "double"}
    schema: ClassVar = {"stars": {"type": "integer", "minimum": 1, "maximum": 5}}
    headline: ClassVar[str] = "accuracy"

    def scores(self, outputs):
        return outputs

    def _places(self, outputs):
        return (outputs > 0).sum(axis=1)

    def predictions(self, outputs):
        return [StarsPrediction(stars=int(self.levels[place])) for place in self._places(outputs)]

    def metrics(self, scores, targets, unknown):
        shares = np.eye(len(self.levels))[self._places(scores)]
        found = classification_metrics(shares, targets, self.levels, unknown, 0.0)
        return {"n": found["n"], "accuracy": found["accuracy"]}

    def cells(self, prediction):
        return (float(prediction.stars),)

    def response(self, prediction):
        return {"stars": prediction.stars}


class Stars(mm.TaskType):
    head = "acme_parts.torch_parts:StarsHead"
    decoding = Passed
    metrics: ClassVar = {"accuracy": mm.Metric()}
    main_metric = "accuracy"
    learns_from = "different"
    has_labels = True
    example_cells = ("1", "5", "3", "1")
'''
TORCH_PARTS = """
import json
from dataclasses import dataclass

import multimodal as mm
import torch
import torch.nn.functional as F
from acme_parts.counts import Counts
from acme_parts.stars import Passed
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


class StarsHead(mm.Head):
    def __init__(self, in_dim, labels):
        super().__init__()
        self.levels, self.num_outputs, self.chance_loss = tuple(labels), len(labels) - 1, 0.7
        self.linear = nn.Linear(in_dim, self.num_outputs)

    def forward(self, fused):
        return self.linear(fused).float()

    def loss(self, outputs, target):
        passed = (target[:, None] > torch.arange(self.num_outputs, device=target.device)).float()
        return F.binary_cross_entropy_with_logits(outputs, passed, reduction="none").mean(dim=1)

    def decoding(self):
        return Passed(self.levels)


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
    "tasks": {"kind": {}, "stars": {"type": "acme/stars"}},
    "transfer": {"strategy": "acme/warm", "options": {"warm": 1}, "guard": "off"},
    "train": {
        "epochs": 6,
        "batch_size": 4,
        "learning_rate": 0.1,
        "trackers": [{"name": "acme/lines", "options": {"last": 3}}],
    },
}
ROWS = [
    {"text": text, "kind": kind, "stars": stars}
    for text, kind, stars in (("apple", "a", "1"), ("plum", "p", "5"), ("mango", "a", "3"), ("lemon", "p", "5"))
]
REGISTRIES = (ENCODERS, PREPROCESSORS, FUSIONS, TASK_TYPES, STRATEGIES, TRACKERS)
NAMES = ("acme/letters", "acme/counts", "acme/sum", "acme/stars", "acme/warm", "acme/lines")
ALLOWED = ("acme/counts", "acme/stars")
"""What a bundle needs of them."""
OPTIONS = [option for name in ALLOWED for option in ("--allow-plugin", name)]
WITHOUT_TORCH = """
import importlib.abc, sys
class Blocker(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "torch":
            raise ModuleNotFoundError("torch is blocked", name="torch")
sys.meta_path.insert(0, Blocker())
from multimodal.cli import main
main()
"""


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
        (folder / "acme_parts" / "stars.py", STARS),
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
    forget()


def forget():
    for name in [name for name in sys.modules if name.partition(".")[0] == "acme_parts"]:
        del sys.modules[name]


@pytest.fixture(scope="module")
def made(site, tmp_path_factory):
    """A folder with the run of ``JOB``, which was trained where the distribution is installed, and its bundle."""
    folder = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as context:
        context.syspath_prepend(str(site))
        run = mm.fit(parse_job(JOB), train=ROWS, valid=ROWS, out=folder / "run", cache=False)
        run.export(folder / "bundle", records=ROWS, embedding=True)
    forget()
    return folder


@pytest.fixture
def predictor(made, installed):
    return mm.Predictor.load(made / "bundle", allow_plugins=ALLOWED)


def test_parts_are_listed_by_name_without_being_imported(installed):
    job = parse_job({**JOB, "tasks": {"kind": {}}})  # rules of a task type are part of it
    assert [registry.find(name).owner for registry, name in zip(REGISTRIES, NAMES, strict=True)] == ["acme-parts"] * 6
    assert (job.fusion.name, job.transfer.strategy) == ("acme/sum", "acme/warm")
    assert not any(name.startswith("acme_parts") for name in sys.modules)
    assert parse_job({**JOB, "train": {"trackers": ["acme/lines"]}}).train.trackers == [mm.Tracking(name="acme/lines")]


def test_every_part_keeps_its_contract(installed):
    parts = importlib.import_module("acme_parts.torch_parts")
    mm.check_encoder(mm.create_encoder("acme/letters"), export=False)
    mm.check_preprocessor(parts.Counts("abc"), samples=["a", "bb", "cab"])
    mm.check_fusion(parts.SumFusion, export=False)
    mm.check_strategy(parts.Warm)
    mm.check_task_type("acme/stars", export=False)


def test_a_job_of_plug_ins_is_trained(made, installed):
    lines = [json.loads(line) for line in (made / "lines.jsonl").read_text().splitlines()]
    assert lines[0] == {"job": "fruit"}
    assert [line["epoch"] for line in lines[1:-1]] == [1, 2, 3]  # the tracker ends the training
    assert lines[-1] == {"epochs": 3}
    run = mm.Run(made / "run")
    assert (run.model.fusion.gain, run.model.fusion.out_dim) == (2.0, 6)
    assert run.metrics["tasks"]["stars"]["n"] == len(ROWS)
    recorded = json.loads((made / "run" / "model.json").read_text())["plugins"]
    assert {(part["kind"], part["name"]) for part in recorded} == {
        (registry.kind, name) for registry, name in zip(REGISTRIES, NAMES, strict=True)
    }


def test_a_bundle_has_the_decoding_of_a_plug_in(made, predictor):
    model, texts = mm.Run(made / "run").model, [row["text"] for row in ROWS]
    arrays = predictor.preprocessors["text"].stack([predictor.preprocessors["text"](text) for text in texts])
    inputs = {
        "text": {"counts": torch.from_numpy(arrays["counts"]), "present": torch.ones(len(texts), dtype=torch.bool)}
    }
    with torch.no_grad():
        outputs = model(inputs).outputs["stars"].numpy()
    expected = [int(("1", "3", "5")[np.count_nonzero(row > 0)]) for row in outputs]
    assert [found["stars"].stars for found in predictor.predict([{"text": text} for text in texts])] == expected
    assert mm.verify_bundle(made / "bundle", allow_plugins=ALLOWED) == []


def test_a_decoding_of_a_plug_in_works_without_torch(made, site, predictor, tmp_path):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(site), str(ROOT)])}
    (tmp_path / "data.csv").write_text("text\n" + "".join(f"{row['text']}\n" for row in ROWS))
    table = ["--data", str(tmp_path / "data.csv"), "--out", str(tmp_path / "out.csv")]
    command = [sys.executable, "-c", WITHOUT_TORCH, "predict", str(made / "bundle"), *table, *OPTIONS]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    rows = list(csv.DictReader((tmp_path / "out.csv").read_text().splitlines()))
    expected = [found["stars"].stars for found in predictor.predict([{"text": row["text"]} for row in ROWS])]
    assert [float(row["stars"]) for row in rows] == expected


def test_a_server_responds_with_and_describes_the_decoding_of_a_plug_in(made, predictor):
    testclient = pytest.importorskip("starlette.testclient")
    from export.serving.app import create_app
    from export.serving.readiness import load_verified
    from export.serving.service import Service
    from export.serving.settings import Settings

    service = Service(made / "bundle", Settings(), load=partial(load_verified, allow_plugins=ALLOWED))
    with testclient.TestClient(create_app(service), base_url="http://127.0.0.1") as client:
        wait_until(lambda: client.get("/v2/health/ready").status_code == 200, "ready")
        response = client.post("/predict", json={"text": "mango"}).json()["predictions"][0]["stars"]
        described = client.get("/openapi.json").json()["paths"]["/predict"]["post"]["responses"]["200"]["content"]
    assert response == {"stars": predictor.predict([{"text": "mango"}])[0]["stars"].stars, "missing": []}
    tasks = described["application/json"]["schema"]["properties"]["predictions"]["items"]["properties"]
    assert list(tasks) == ["embedding", "kind", "stars"]
    assert tasks["stars"]["properties"]["stars"] == {"type": "integer", "minimum": 1, "maximum": 5}


@pytest.mark.parametrize(
    "command",
    [
        ["verify", "BUNDLE"],
        ["predict", "BUNDLE", "--text", "plum"],
        ["explain", "BUNDLE", "--data", "data.csv", "--out", "why"],
        pytest.param(["bench", "BUNDLE", "--seconds", "0.01"], marks=pytest.mark.slow),
        ["gallery", "add", "BUNDLE", "--gallery", "shop", "--data", "data.csv", "--label", "kind"],
        ["gallery", "search", "BUNDLE", "--gallery", "shop", "--text", "plum"],
        ["gallery", "calibrate", "BUNDLE", "--gallery", "shop"],
        ["gallery", "remove", "BUNDLE", "--gallery", "shop", "--label", "a"],
        ["gallery", "info", "BUNDLE", "--gallery", "shop"],
    ],
    ids=lambda command: "-".join(command[:2]).removesuffix("-BUNDLE"),
)
def test_a_command_loads_a_bundle_of_plug_ins_only_with_their_names(
    command, made, predictor, site, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(site))  # of the processes that ``bench`` starts
    (tmp_path / "data.csv").write_text("text,kind\n" + "".join(f"{row['text']},{row['kind']}\n" for row in ROWS))
    if command[0] == "gallery" and command[1] != "add":
        mm.Gallery.open("shop", made / "bundle", allow_plugins=ALLOWED).add("data.csv", "kind")
    arguments = [str(made / "bundle") if argument == "BUNDLE" else argument for argument in command]
    refused = CliRunner().invoke(app, arguments)
    hint = "if you trust it, allow it with --allow-plugin acme/counts"
    assert refused.exit_code == 1
    assert hint in refused.stderr or hint in str(refused.exception)
    assert isinstance(refused.exception, mm.BundleError | SystemExit)
    done = CliRunner().invoke(app, [*arguments, *OPTIONS], catch_exceptions=False)
    assert done.exit_code == 0, done.output


@pytest.mark.slow
def test_the_server_loads_plug_ins_only_with_their_names(made, site, tmp_path):
    path = os.pathsep.join([str(site), str(ROOT)])
    refused = Running(made / "bundle", PYTHONPATH=path)
    _, written = refused.process.communicate(timeout=240)
    assert refused.process.returncode == 1
    assert "if you trust it, allow it with --allow-plugin acme/counts" in written
    server = Running(made / "bundle", *OPTIONS, PYTHONPATH=path)
    server.wait_until_ready()
    assert server.stop() == (0, "")


def test_a_triton_repository_holds_plug_ins_that_are_allowed(made, predictor, tmp_path):
    pytest.importorskip("tritonclient.grpc.model_config_pb2")
    from export.triton import write_triton_repository
    from export.triton.stages import Postprocessing

    with pytest.raises(mm.BundleError, match=r"wants the task type 'acme/stars' .* --allow-plugin acme/stars"):
        write_triton_repository(made / "bundle", tmp_path / "models", allow_plugins=("acme/counts",))
    with pytest.raises(mm.BundleError, match=r"wants the preprocessor 'acme/counts' .* --allow-plugin acme/counts"):
        write_triton_repository(made / "bundle", tmp_path / "models", allow_plugins=("acme/stars",))
    names = write_triton_repository(made / "bundle", tmp_path / "models", allow_plugins=None)
    outputs = predictor.outputs([predictor.read({"text": "plum"})])
    found = Postprocessing(tmp_path / "models" / names["answer"] / "1")(
        {"kind": outputs["kind"], "stars": outputs["stars"]}
    )
    assert found["stars"] == [[predictor.predict([{"text": "plum"}])[0]["stars"].stars]]


def test_a_run_takes_no_names_to_allow(made, installed, tmp_path):
    (tmp_path / "data.csv").write_text("text\nplum\n")
    arguments = ["explain", str(made / "run"), "--data", str(tmp_path / "data.csv"), "--out", str(tmp_path / "why")]
    done = CliRunner().invoke(app, [*arguments, *OPTIONS])
    assert done.exit_code == 2
    assert "a run loads what it was trained with" in " ".join(done.output.replace("│", " ").split())


@pytest.mark.parametrize(
    ("allowed", "message"),
    [
        ((), r"'acme/counts' from the distribution 'acme-parts', .* --allow-plugin acme/counts \(in Python: allow_pl"),
        (("acme/stars",), "wants the preprocessor 'acme/counts'"),
        (("acme/counts",), r"wants the task type 'acme/stars' .* allow_plugins=\('acme/stars',\)"),
        (("stars", "acme/counts"), "wants the task type 'acme/stars'"),
        (("acme/*",), "wants the preprocessor 'acme/counts'"),
    ],
)
def test_a_bundle_refuses_plug_ins_that_are_not_allowed(allowed, message, made, installed):
    with pytest.raises(mm.BundleError, match=message):
        mm.Predictor.load(made / "bundle", allow_plugins=allowed)
    (problem,) = mm.verify_bundle(made / "bundle", allow_plugins=allowed)
    assert re.search(message, problem)


def test_a_bundle_names_the_distribution_that_is_not_installed(made):
    message = "the preprocessor 'acme/counts' is not installed; run: pip install acme-parts"
    with pytest.raises(mm.BundleError, match=message):
        mm.Predictor.load(made / "bundle", allow_plugins=ALLOWED)
    with pytest.raises(mm.BundleError, match=message):
        mm.Gallery.open(made / "shop", made / "bundle", allow_plugins=ALLOWED)
    assert message in mm.verify_bundle(made / "bundle", allow_plugins=ALLOWED)[0]


def test_a_bundle_names_the_distribution_that_cannot_be_loaded(made, site, monkeypatch, tmp_path):
    broken = shutil.copytree(site, tmp_path / "site")
    (broken / "acme_parts" / "counts.py").write_text("Other = 1\n")
    monkeypatch.syspath_prepend(str(broken))
    with pytest.raises(mm.BundleError, match=r"'acme/counts' of acme-parts cannot be loaded .*; install what acme-p"):
        mm.Predictor.load(made / "bundle", allow_plugins=ALLOWED)
    forget()


@pytest.mark.parametrize(
    ("kind", "name"), [(registry.kind, name) for registry, name in zip(REGISTRIES, NAMES, strict=True)]
)
def test_a_run_names_the_distribution_that_is_not_installed(kind, name, made, tmp_path):
    shutil.copytree(made / "run", tmp_path / "run")
    description = json.loads((tmp_path / "run" / "model.json").read_text())
    description["plugins"] = [part for part in description["plugins"] if part["kind"] == kind]
    (tmp_path / "run" / "model.json").write_text(json.dumps(description))
    with pytest.raises(mm.RunError, match=f"run: the {kind} '{name}' is not installed; run: pip install acme-parts"):
        mm.Run(tmp_path / "run")


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
    for registry in REGISTRIES:
        monkeypatch.setattr(registry, "registered", {})
    examples = blocks(ROOT / "docs" / "plugins.md", "python")
    assert len(examples) == 5
    assert len([line for line in examples[number].splitlines() if line]) <= 20
    monkeypatch.setattr(mm, "check_fusion", lambda build: check_fusion(build, export=False))
    names = {"__name__": "example"}
    exec(compile(examples[number], "plugins.md", "exec"), names)
    if "Counts" in names:
        mm.check_preprocessor(names["Counts"]("abc"), samples=["a cab", "b"])
