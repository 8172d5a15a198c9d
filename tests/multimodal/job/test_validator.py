"""The score that chooses the best weights; reference: scikit-learn on the outputs of the model."""

import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import accuracy_score, r2_score
from support.assertions import assert_close
from support.tiny_pretrained import shop_setup

from multimodal.data.dataset import evaluation_batches
from multimodal.job import TrainingSetup
from multimodal.records import RecordError

pytestmark = pytest.mark.usefixtures("planted_encoders")


def known(setup: TrainingSetup, task: str) -> tuple[np.ndarray, np.ndarray]:
    """Targets, and raw outputs, of the validation records that have a target."""
    (batch,) = evaluation_batches(setup.datasets.validation, batch_size=64)
    with torch.no_grad():
        outputs = setup.model.eval()(batch.inputs).outputs[task]
    return batch.targets[task][batch.known[task]].numpy(), outputs[batch.known[task]].numpy()


@pytest.mark.parametrize("metric", ["color.accuracy", "price.r2"])
def test_the_score_is_the_metric_that_the_job_names(shop, metric):
    setup = shop_setup(shop, **{"train.metric": metric})
    (colors, logits), (prices, values) = known(setup, "color"), known(setup, "price")
    values = values * setup.heads["price"]["std"] + setup.heads["price"]["mean"]
    expected = {"color.accuracy": accuracy_score(colors, logits.argmax(axis=1)), "price.r2": r2_score(prices, values)}
    metrics, score = setup.validator()
    assert_close(np.array([metrics[name] for name in expected]), np.array([*expected.values()]), "float32")
    assert score == metrics[metric]


def test_it_scores_the_model_as_it_is_at_each_call(shop):
    setup = shop_setup(shop)
    before = setup.validator()
    assert setup.validator() == before
    with torch.no_grad():
        for parameter in setup.model.head("color").parameters():
            parameter.neg_()
    assert setup.validator() != before


def test_a_record_that_cannot_be_read_ends_the_validation_or_is_left_out(shop, tmp_path):
    folder = shutil.copytree(shop, tmp_path / "shop")
    image = pd.read_csv(folder / "valid.csv", dtype=str)["image"].dropna().iloc[0]
    (folder / image).write_bytes(b"no image")
    setup = shop_setup(folder)
    with pytest.raises(RecordError, match=rf"valid.csv, row \d+, column image: '{image}'"):
        setup.validator()
    assert replace(setup.validator, on_error="skip")()[0]
