"""Encoders that never train: checkpoints leave them out, and a resumed run has the same ones."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from support.tiny_models import make_dataset, make_model, make_rows

import multimodal as mm
from multimodal.features.views import CachedDataset
from multimodal.run import RunError
from multimodal.runtime.checkpoint import load_tensors
from multimodal.trainer.checkpointer import fixed_tensors
from multimodal.training import fit
from multimodal.transfer.plan import EncoderPolicy
from multimodal.transfer.strategies import Finetune, LinearProbe


def make_job() -> mm.Job:
    return mm.Job.model_validate({
        "data": {"workers": 0},
        "inputs": {"text": {"encoder": "compact/text"}},
        "fusion": {"name": "concat"},
        "tasks": {"color": {}},
        "transfer": {"strategy": "linear_probe"},
        "train": {"epochs": 1, "batch_size": 8},
    })  # fmt: skip


@pytest.fixture(scope="module")
def media(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("shop")
    pd.DataFrame(make_rows(folder, 16)).to_csv(folder / "train.csv", index=False)
    return folder


def test_only_encoders_that_no_phase_trains_are_fixed():
    model = make_model(norm="batch")
    everything = {name for name in model.state_dict() if name.startswith("encoders.")}
    assert fixed_tensors(model, LinearProbe().plan(model, 1)) == everything
    assert fixed_tensors(model, Finetune().plan(model, 1)) == frozenset()
    some = fixed_tensors(model, Finetune(EncoderPolicy(frozen=frozenset({"image"}))).plan(model, 1))
    assert 0 < len(some) < len(everything)
    assert any(name.endswith("running_mean") for name in some)


def test_checkpoints_leave_out_what_never_trains_and_the_run_has_it(media, tmp_path):
    run = fit(make_job(), train=media / "train.csv", out=tmp_path / "run")
    for path in (run.folder / "checkpoints").glob("*.safetensors"):
        assert not any("encoders." in name for name in load_tensors(path)[0])
    assert any("encoders." in name for name in load_tensors(run.folder / "model.safetensors")[0])


def test_a_run_begun_with_other_weights_is_not_resumed(media, tmp_path):
    run = fit(make_job(), train=media / "train.csv", out=tmp_path / "run")
    (run.folder / "metrics.json").unlink()  # as if it had been killed before its end
    description = json.loads((run.folder / "model.json").read_text())
    description["inputs"]["text"]["provenance"]["sha256"] = "another"
    (run.folder / "model.json").write_text(json.dumps(description))
    with pytest.raises(RunError, match=r"was begun with other weights of inputs\.text"):
        fit(make_job(), train=media / "train.csv", out=tmp_path / "run", resume=True)


def test_remembered_records_are_the_same_and_read_once(media, monkeypatch):
    data = make_dataset(make_rows(media, 4), media, make_model())
    remembered, plain = CachedDataset(data, views=2), [data[(epoch % 2, 1)] for epoch in range(4)]
    for epoch in range(4):
        sample: Any = remembered[(epoch, 1)]
        assert np.array_equal(sample.inputs["image"][0]["pixels"], plain[epoch].inputs["image"][0]["pixels"])
    monkeypatch.setattr(type(data), "read", lambda *_: pytest.fail("read again"))
    assert remembered[(7, 1)].row == 1
