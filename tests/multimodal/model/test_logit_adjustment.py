"""Adjusted logits through a whole run: reload, temperature, and the bundle."""

import math

import pytest
import torch
from support.assertions import assert_close
from support.tiny_pretrained import shop_job

from multimodal.evaluation import answer, labelled_outputs
from multimodal.metrics.calibration import fit_temperature
from multimodal.model.heads import HeadOver
from multimodal.records import read_records
from multimodal.run import Run
from multimodal.training import fit


@pytest.mark.usefixtures("planted_encoders")
@pytest.mark.parametrize(
    ("fusion", "tower"),
    [({"name": "concat", "dim": 8}, []), ({"name": "concat", "dim": 8}, [5]), ({"name": "late"}, [])],
)
def test_a_run_with_adjusted_logits_reloads_exports_and_is_cooled_with_its_frequencies(shop, tmp_path, fusion, tower):
    task = shop_job(shop, fusion=fusion, tasks={"color": {"imbalance": "logit_adjustment", "tower": tower}})
    run = Run(fit(task, out=tmp_path / "run").folder)
    counts = [6, 5, 3]  # of blue, green, red in the 16 records of train.csv, of which two have no color
    head = run.model.head("color")
    assert_close(head.loss_offsets, [math.log(count / 14) for count in counts])
    prior = (head.one if isinstance(head, HeadOver) else head).prior
    assert torch.equal(prior, prior[:1].expand(3))
    data, subset = run.dataset(read_records(shop / "valid.csv")), run.model.input_names
    answers = answer(run.model, data, subsets=[subset])
    ((_, outputs, truth),) = labelled_outputs(answers, subset, data, {"color": head.decoding()})
    fitted = fit_temperature(head.decoding(), outputs, truth.targets, head.loss_offsets.numpy())
    assert_close(run.decodings["color"].temperature, fitted)
    assert fitted != fit_temperature(head.decoding(), outputs, truth.targets)
    run.export(tmp_path / "bundle")  # through the parity gate
