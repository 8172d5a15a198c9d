"""Private towers: what the formula says, nobody else's, trained, reloaded and exported like any head."""

from typing import Any

import numpy as np
import pytest
import torch
from support.assertions import assert_close
from support.tiny_models import make_rows

import multimodal as mm
from multimodal.builders.heads import build_head
from multimodal.config import ConfigError, parse_job
from multimodal.model.heads import ClassificationHead, HeadPlace, RegressionHead
from multimodal.model.layers import TowerHead
from multimodal.run import Run
from multimodal.task_types import task_type
from multimodal.training import fit

LABELS = ["a", "b", "c"]
CLASSIFICATION = task_type("classification").head
PLACE = HeadPlace(6, {"text": 6}, ("text",), {"text": "text"}, is_separated=True)


def tower(*widths: int) -> TowerHead:
    torch.manual_seed(0)
    head = build_head(CLASSIFICATION, PLACE, {"labels": LABELS}, tower=widths)
    assert isinstance(head, TowerHead)
    return head


def test_it_is_a_linear_layer_and_a_gelu_for_each_width():
    head, fused = tower(5, 4), torch.randn(7, 6, generator=torch.Generator().manual_seed(1))
    x = fused
    for layer in (head.tower[0], head.tower[2]):
        x = torch.nn.functional.gelu(x @ layer.weight.T + layer.bias)
    linear = head.head.linear
    assert_close(head(fused), x @ linear.weight.T + linear.bias)
    assert head(fused).shape == (7, head.num_outputs)


def test_without_widths_a_head_is_what_it_was():
    assert type(build_head(CLASSIFICATION, PLACE, {"labels": LABELS})) is ClassificationHead
    assert type(build_head(task_type("regression").head, PLACE, {}, tower=())) is RegressionHead


def test_loss_decoding_and_evidence_are_those_of_its_head():
    head, outputs = tower(4), torch.randn(5, 3, generator=torch.Generator().manual_seed(2))
    target = torch.tensor([0, 1, 2, 0, 1])
    assert torch.equal(head.loss(outputs, target), head.head.loss(outputs, target))
    assert (head.decoding(), head.chance_loss) == (head.head.decoding(), head.head.chance_loss)
    both, weights = outputs.expand(2, 5, 3), torch.ones(2, 5)
    assert torch.equal(head.combine(both, weights), head.head.combine(both, weights))


@pytest.mark.parametrize("widths", [[], [4, 0]])
def test_a_tower_without_a_width_is_refused(widths):
    with pytest.raises(ValueError, match="give at least one, each 1 or more"):
        TowerHead(6, widths, RegressionHead(4))


def test_a_contrastive_task_has_no_tower():
    values: dict[str, Any] = {
        "inputs": {"image": {"encoder": "compact/image"}},
        "tasks": {"m": {"type": "contrastive"}},
    }
    values["tasks"]["m"]["tower"] = [8]
    with pytest.raises(ConfigError, match=r"tasks.m: tower belongs to type: .*, and type is contrastive; leave it out"):
        parse_job(values)
    values["tasks"] = {"m": {"tower": [0]}}
    with pytest.raises(ConfigError, match=r"tasks.m.tower.0: .*greater than 0"):
        parse_job(values)


def make_job(**fusion: Any) -> dict[str, Any]:
    return {
        "name": "towers",
        "data": {"workers": 0},
        "inputs": {
            "image": {"encoder": "planted/picture"},
            "text": {"encoder": "planted/words"},
        },
        "fusion": {"name": "concat", "dim": 16, **fusion},
        "tasks": {"color": {"tower": [8, 6]}, "price": {"type": "regression", "tower": [4]}},
        "train": {"epochs": 1, "batch_size": 8},
    }


@pytest.mark.usefixtures("planted_encoders")
@pytest.mark.parametrize("fusion", [{"unimodal_weight": 1.0}, {"name": "late", "dim": None}], ids=str)
def test_a_job_with_towers_reloads_and_answers_alike_without_torch(tmp_path, fusion):
    rows = make_rows(tmp_path / "media", 12)
    run = fit(parse_job(make_job(**fusion)), train=rows, valid=rows[:6], root=tmp_path / "media", out=tmp_path / "run")
    again = Run(run.folder)
    records = mm.read_records(rows, root=tmp_path / "media")
    assert again.evaluate(records)["tasks"] == run.evaluate(records)["tasks"]
    bundle = run.export(tmp_path / "bundle", records=records)
    given = [{"image": tmp_path / "media" / row["image"], "text": row["text"]} for row in rows]
    answers = mm.Predictor.load(bundle.folder).predict(given)
    for task, of_one in again.decodings.items():
        dataset = again.dataset(records)
        batch = mm_batch(dataset, len(rows))
        expected = of_one.predictions(again.model(batch.inputs).outputs[task].detach().numpy())
        for answer, own in zip(answers, expected, strict=True):
            assert answer[task].label == own.label
            if own.value is not None:
                assert_close(np.float32(answer[task].value), np.float32(own.value), "onnx")


def mm_batch(dataset: Any, count: int) -> Any:
    from multimodal.data.dataset import collate

    return collate([dataset[0, row] for row in range(count)], dataset.readers, dataset.targets)


@pytest.mark.usefixtures("planted_encoders")
def test_no_other_task_s_loss_reaches_a_tower(tmp_path):
    rows = make_rows(tmp_path / "media", 6)
    run = fit(parse_job(make_job()), train=rows, valid=rows, root=tmp_path / "media", out=tmp_path / "run")
    model, dataset = run.model, run.dataset(mm.read_records(rows, root=tmp_path / "media"))
    model(mm_batch(dataset, 6).inputs).outputs["price"].sum().backward()
    assert all(parameter.grad is None for parameter in model.head("color").parameters())
    assert all(parameter.grad is not None for parameter in model.head("price").parameters())
