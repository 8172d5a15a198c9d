"""The transfer check of whole jobs: planted encoders, gaps, what is not measured, and the command."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from support.known_transfer import Scrambled
from support.logs import shown
from support.tiny_models import TinyText, make_rows
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from torch import nn
from typer.testing import CliRunner

import multimodal as mm
from encoders import registry
from encoders.preprocessing.text import TextPreprocessor
from multimodal.cli import app
from multimodal.features import encoder_key
from multimodal.job import TrainingSetup
from multimodal.records import RecordError
from multimodal.runtime.runtime import Runtime
from multimodal.selection.arm_features import arm_features, random_twins
from multimodal.selection.labelled import LabelledRecords, number_strata
from multimodal.selection.scratch import from_scratch
from multimodal.splits.tables import read_tables
from multimodal.transfer.guard.arms import compare_numbers

SYNONYMS = {f"w{number}": number for number in range(48)}


class Synonyms(TinyText):
    """Its weights know which words mean the same: those of one remainder by three."""

    def __init__(self, *, weights: str | None = None) -> None:
        super().__init__()
        words = WordLevel({**SYNONYMS, "[UNK]": len(SYNONYMS)}, unk_token="[UNK]")
        self.preprocessor = TextPreprocessor(Tokenizer(words))
        self.embed = nn.Embedding(len(SYNONYMS) + 1, 8)
        if weights == "pretrained":
            with torch.no_grad():
                self.embed.weight.copy_(torch.eye(8)[torch.arange(len(SYNONYMS) + 1) % 3])


@pytest.fixture(autouse=True)
def _planted_encoders(monkeypatch):
    monkeypatch.setattr(registry.ENCODERS, "registered", {})
    for name, kind in (("planted/synonyms", Synonyms), ("planted/scrambled", Scrambled)):
        mm.register_encoder(name, modality="text", has_weights=True)(kind)


@pytest.fixture(scope="module")
def media(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("shop")
    pd.DataFrame(make_rows(folder, 30, gaps=True)).to_csv(folder / "train.csv", index=False)
    pd.DataFrame(make_rows(folder, 30)[:12]).to_csv(folder / "val.csv", index=False)
    return folder


def shop(media: Path, **changes: Any) -> mm.Job:
    values = {
        "data": {"train": str(media / "train.csv"), "valid": str(media / "val.csv"), "workers": 0},
        "inputs": {
            "image": {"encoder": "compact/image", "weights": None, "options": {"image_size": 32}},
            "text": {"encoder": "planted/scrambled"},
        },
        "fusion": {"name": "concat", "dim": 8},
        "tasks": {"color": {}, "price": {"type": "regression"}},
        "train": {"epochs": 1, "batch_size": 8},
    }
    return mm.Job.model_validate({**values, **changes})


def words(encoder: str, **text: Any) -> mm.Job:
    return mm.Job.model_validate({"inputs": {"text": {"encoder": encoder, **text}}, "tasks": {"color": {}}})


def built(job: mm.Job) -> TrainingSetup:
    return TrainingSetup.build(job, read_tables(job), Path.cwd())


def test_weights_that_know_what_the_table_cannot_say_are_positive():
    rows = [{"text": word, "color": "rgb"[number % 3]} for word, number in SYNONYMS.items()]
    found = mm.transfer_check(words("planted/synonyms"), train=rows, valid=rows)["tasks"]["color"]
    assert found["verdict"] == "positive"
    assert found["arms"]["probe"]["value"] == 1.0
    assert found["arms"]["raw"]["value"] < 0.6
    assert found["labels"] == {"b": 16, "g": 16, "r": 16}


def test_weights_that_scramble_the_input_are_negative():
    rows = [{"text": word, "color": word} for word in ("blue", "green", "red") * 10]
    found = mm.transfer_check(words("planted/scrambled"), train=rows, valid=rows)["tasks"]["color"]
    assert found["verdict"] == "negative"
    assert found["arms"]["raw"]["value"] == found["arms"]["random"]["value"] == 1.0
    assert found["action"].startswith("do not freeze these encoders: fine-tune them")


def test_the_answer_is_the_json_that_was_promised_and_is_the_same_again(media, tmp_path):
    found = mm.transfer_check(shop(media), out=tmp_path / "gap.json")
    assert json.loads((tmp_path / "gap.json").read_text()) == found
    assert list(found["tasks"]) == ["color", "price"]
    color = found["tasks"]["color"]
    assert list(color["arms"]) == ["majority", "raw", "random", "probe", "single:image", "single:text"]
    for value in (color["gap"], *color["arms"].values()):
        assert set(value) == {"value", "low", "high"}
        assert value["low"] <= value["value"] <= value["high"]
    assert color["verdict"] in ("positive", "negative", "inconclusive")
    assert (color["folds"], color["repeats"], color["seed"], color["records"]) == (5, 3, 0, 25)
    assert color["inputs"]["against"] in ("image", "text")
    assert mm.transfer_check(shop(media)) == found
    assert mm.transfer_check(shop(media), cache=False) == found


@pytest.mark.parametrize(
    "numbers, reason",
    [
        ([1, 2, 3, 4], "a regression takes 5 records"),
        ([2.5] * 9, "not all equal"),
        ([7], "no class has two records"),
        ([], "no class has two records"),
        (range(5), None),
        ([0, 0, 0, 0, 1], None),
        (range(40), None),
    ],
)
def test_numbers_can_be_held_out_from_five_that_differ_on(numbers, reason):
    numbers = np.array(numbers, dtype=np.float64)
    found = LabelledRecords(np.arange(len(numbers)), number_strata(numbers), None, numbers).reason
    assert found is None if reason is None else reason in found


@pytest.mark.parametrize("n", [5, 6, 11, 24, 60])
@pytest.mark.parametrize("groups", [None, 2])
def test_few_numbers_are_compared(n, groups):
    numbers = np.random.default_rng(n).normal(size=n)
    shared = None if groups is None else np.minimum(np.arange(n), groups - 1)  # one record, and all others
    features = np.random.default_rng(0).normal(size=(n, 3))
    found = compare_numbers({"raw": features, "probe": features}, numbers, number_strata(numbers), groups=shared)
    assert found["verdict"] == "inconclusive"


def test_a_missing_input_is_zeros_and_a_column_that_says_so(media):
    setup = built(shop(media))
    arms, failed = arm_features(setup, ["image", "text"], setup.tables.train, Runtime())
    assert not failed
    missing = np.array([not row["image"] for row in setup.tables.train.rows])
    assert missing.any()
    for features in arms.values():
        assert features["image"][:, -1].tolist() == missing.astype(float).tolist()
        assert not features["image"][missing, :-1].any()
        assert features["image"][~missing, :-1].any(axis=1).all()


def test_regressions_are_compared_by_r2_with_the_mean_of_the_targets_too(media):
    price = mm.transfer_check(shop(media))["tasks"]["price"]
    assert price["metric"] == "r2"
    assert list(price["arms"]) == ["mean", "raw", "random", "probe", "single:image", "single:text"]
    assert price["arms"]["mean"]["value"] <= 0  # the mean of other records is no better than that of all
    assert price["against"] in ("mean", "raw", "random")
    assert "labels" not in price


def test_random_encoders_have_no_transfer_to_measure(media):
    job = words("planted/scrambled", weights=None)
    found = mm.transfer_check(job, train=media / "train.csv", scratch=True)
    assert found["tasks"] == {"color": {"verdict": "not measured", "reason": "no encoder comes with weights"}}


def test_classes_of_one_record_cannot_be_held_out():
    rows = [{"text": word, "color": word} for word in ("blue", "green", "red")]
    found = mm.transfer_check(words("planted/scrambled"), train=rows, valid=rows)["tasks"]["color"]
    assert found["reason"] == "no class has two records, so that none can be held out"


def test_a_task_is_checked_on_its_own_inputs(media):
    job = shop(media, tasks={"color": {"inputs": ["text"]}, "shade": {"column": "color", "inputs": ["image"]}})
    found = mm.transfer_check(job)["tasks"]
    assert list(found["color"]["arms"]) == ["majority", "raw", "random", "probe"]
    assert found["shade"]["reason"] == "no encoder comes with weights"  # the picture's is random


def test_a_record_that_cannot_be_read_stops_or_is_left_out_and_listed(media, caplog):
    rows = pd.read_csv(media / "train.csv")
    rows.loc[0, "image"] = "absent.png"
    options = {"train": rows, "valid": rows.tail(5), "root": media}
    with pytest.raises(RecordError, match=r"row 1, column image: 'absent.png' does not exist"):
        mm.transfer_check(shop(media), **options)
    job = shop(media, data={"workers": 0, "on_error": "skip"})
    found = mm.transfer_check(job, **options)["tasks"]["color"]
    assert list(found["skipped_rows"]) == ["0"]
    assert (found["records"], found["labelled_records"]) == (24, 25)
    assert "warning: 1 records that cannot be read were left out; --out lists them" in shown(caplog)


def test_a_table_that_cannot_be_read_at_all_is_not_measured():
    rows = [{"text": ["no", "text"], "color": color} for color in ("blue", "green") * 4]
    task = words("planted/scrambled").model_copy(update={"data": mm.Data(on_error="skip", workers=0)})
    found = mm.transfer_check(task, train=rows, valid=rows)["tasks"]["color"]
    assert found["reason"] == "too few of its records can be read to hold any out"


def test_random_twins_have_the_architecture_and_other_weights(media):
    encoders = built(shop(media)).encoders
    twins = random_twins({**encoders, "again": encoders["text"]}, seed=0)
    assert twins["image"] is encoders["image"]  # it is random as it is
    assert twins["again"] is twins["text"]
    assert twins["text"].provenance.weights == "random"
    assert twins["text"].project.weight.any()
    assert not encoders["text"].project.weight.any()
    other = random_twins(encoders, seed=0)["text"]
    assert torch.equal(other.project.weight, twins["text"].project.weight)


def test_tokens_of_random_twins_are_not_kept_for_later(media, tmp_path):
    setup = built(shop(media))
    arms, _ = arm_features(setup, ["image", "text"], setup.tables.train, Runtime(cache=tmp_path))
    assert {"random", "probe"} < set(arms)
    kept = {path.name for path in (tmp_path / "tokens").iterdir()}
    assert kept == {encoder_key(encoder, pooled=True) for encoder in setup.encoders.values()}


def test_only_so_many_records_are_checked_in_the_same_shares_and_it_is_said(monkeypatch, caplog):
    monkeypatch.setattr("multimodal.selection.transfer_gap.MOST_ROWS", 12)
    rows = [{"text": word, "color": word} for word in ("blue", "green", "red", "red") * 6]
    found = mm.transfer_check(words("planted/scrambled"), train=rows, valid=rows)["tasks"]["color"]
    assert found["labels"] == {"blue": 3, "green": 3, "red": 6}
    assert (found["records"], found["labelled_records"]) == (12, 24)
    assert "color: comparing arms on 12 of 24 labelled records" in caplog.messages


def test_the_job_from_scratch_trains_every_encoder_from_random_weights(media):
    inputs = {"text": {"encoder": "compact/text", "frozen": True}}
    job = from_scratch(built(shop(media, inputs=inputs, transfer={"strategy": "linear_probe"})))
    assert (job.inputs["text"].weights, job.inputs["text"].frozen) == (None, False)
    assert job.transfer.strategy == "finetune"
    held = {"strategy": "probe_then_finetune", "l2_sp": 0.1, "distill": 0.1, "average": "wise_ft"}
    free = from_scratch(built(shop(media, transfer=held))).transfer
    assert (free.l2_sp, free.distill, free.average) == (0, 0, "none")


def test_training_from_scratch_is_compared_on_the_validation_table(media):
    gap = mm.transfer_check(shop(media), scratch=True)["tasks"]["color"]["scratch"]
    assert gap["records"] == 12
    assert gap["gap"]["value"] == pytest.approx(gap["configured"] - gap["scratch"])
    assert gap["optimistic"]


# --- the command ---


@pytest.fixture
def config(media) -> Path:
    path = media / "shop.yaml"
    path.write_text(yaml.safe_dump(shop(media).model_dump(exclude_unset=True)))
    return path


def test_the_command_shows_arms_verdict_and_action(config, tmp_path):
    done = CliRunner().invoke(app, ["transfer-check", str(config), "--out", str(tmp_path / "gap.json")])
    assert done.exit_code == 0, done.output
    assert "task\tarm\taccuracy or R2\t95% interval\n" in done.output
    assert "color\tsingle:text\t" in done.output
    assert "color: against raw: " in done.output
    assert "color: comparing arms on 25 of 25 labelled records\n" in done.output
    assert "price\tmean\t" in done.output
    assert "price: against " in done.output
    assert "verdict" in json.loads((tmp_path / "gap.json").read_text())["tasks"]["color"]


def test_wrong_usage_of_the_command_exits_with_2(config):
    assert CliRunner().invoke(app, ["transfer-check"]).exit_code == 2
    assert CliRunner().invoke(app, ["transfer-check", str(config), "--scrtach"]).exit_code == 2


def test_training_says_whether_the_weights_helped(config, tmp_path):
    done = CliRunner().invoke(app, ["train", str(config), "--out", str(tmp_path / "run")])
    assert done.exit_code == 0, done.output
    assert "did the weights help? transfer.json has all of this:\ncolor: against ra" in done.output
    assert "price: against " in done.output
