import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from encoders import find_encoder
from multimodal.builders.encoders import build_encoder, build_encoders
from multimodal.builders.heads import head_arguments, sampling_weights
from multimodal.builders.model import build_model
from multimodal.builders.training import build_strategy
from multimodal.config import ConfigError, Input, Job, parse_job
from multimodal.records import RecordError, read_records
from multimodal.transfer.strategies import Partial


def records(column: str, cells: list[Any]):
    return read_records([{"text": "red", column: cell} for cell in cells])


def make_job(**target: Any) -> Job:
    inputs = {"text": {"encoder": "compact/text"}}
    return parse_job({"inputs": inputs, "tasks": {"other": {}, "kind": target}})


def arguments_of(cells: list[Any], on_error: str = "raise", **task: Any) -> dict[str, Any]:
    """Arguments of the head of the task "kind", whose column is "c"."""
    inputs = {"text": {"encoder": "compact/text"}}
    tasks = {"kind": {"column": "c", **task}}
    job = parse_job({"inputs": inputs, "tasks": tasks, "data": {"on_error": on_error}})
    return head_arguments(job, "kind", records("c", cells))


def test_a_classification_learns_its_labels_from_the_records_sorted():
    arguments = arguments_of(["b", "a ", None, 3.0, "b"], label_smoothing=0.1)
    assert arguments == {"labels": ["3", "a", "b"], "label_smoothing": 0.1, "frequencies": [0.25, 0.25, 0.5]}


def test_class_weights_even_out_the_classes():
    arguments = arguments_of(["a", "a", "a", "b", None], imbalance="class_weights")
    # 4 known records, 2 classes: 4 / (2 * 3) and 4 / (2 * 1)
    assert arguments["class_weights"] == pytest.approx([2 / 3, 2.0])


def test_a_multilabel_task_learns_its_labels_and_keeps_its_threshold():
    arguments = arguments_of(["new;sale", "", "sale"], type="multilabel", threshold=0.3)
    assert arguments == {
        "labels": ["new", "sale"],
        "label_smoothing": 0.0,
        "frequencies": [0.5, 1.0],
        "threshold": 0.3,
    }


def test_classes_that_are_drawn_evenly_are_equally_frequent():
    arguments = arguments_of(["a", "a", "a", "b"], imbalance="balanced_sampler")
    assert arguments["frequencies"] == [0.5, 0.5]


def test_logits_are_adjusted_by_how_frequent_the_classes_are():
    arguments = arguments_of(["a", "a", "a", "b"], imbalance="logit_adjustment")
    assert arguments == {
        "labels": ["a", "b"],
        "label_smoothing": 0.0,
        "frequencies": [0.75, 0.25],
        "logit_adjustment": True,
    }
    assert "class_weights" not in arguments


def test_a_regression_learns_mean_and_deviation_of_the_known_numbers():
    numbers = ["1", None, 2.5, "7"]
    arguments = arguments_of(numbers, type="regression", unit="EUR")
    known = np.array([1, 2.5, 7])
    assert arguments == {"mean": known.mean(), "std": known.std(), "unit": "EUR"}


@pytest.mark.parametrize(
    ("kind", "cells", "match"),
    [
        ("classification", ["a", "a", None], r"has 1 distinct labels \('a'\); classification needs at least 2"),
        ("multilabel", ["", ";"], r"has 0 distinct labels \(none\); multilabel needs at least 1"),
        ("regression", ["2", "2.0", None], "has 1 distinct numbers \\(2.0\\); regression needs at least two"),
        ("regression", [None], "has 0 distinct numbers"),
    ],
)
def test_a_column_that_holds_too_little_to_learn_from_is_refused(kind, cells, match):
    with pytest.raises(ConfigError, match=f"^tasks.kind: column 'c' of records {match}"):
        arguments_of(cells, type=kind)


UNUSABLE = [("regression", ["1", "cheap", "3"], "'cheap' is not"), ("classification", ["a", ["x"], "b"], "is a list")]


@pytest.mark.parametrize(("kind", "cells", "reason"), UNUSABLE)
def test_a_label_that_cannot_be_used_is_named_with_its_place(kind, cells, reason):
    with pytest.raises(RecordError, match=f"records, row 2, column c: .*{reason}") as caught:
        arguments_of(cells, type=kind)
    assert (caught.value.row, caught.value.input) == (1, "kind")


@pytest.mark.parametrize(("kind", "cells", "reason"), UNUSABLE)
def test_a_label_that_cannot_be_used_is_left_out_where_the_task_skips(kind, cells, reason):
    good = [cell for index, cell in enumerate(cells) if index != 1]
    assert arguments_of(cells, "skip", type=kind) == arguments_of(good, type=kind)


def test_a_balanced_sampler_gives_every_class_the_same_weight_and_unknown_rows_the_mean():
    cells = ["a", "a", "a", "b", None]
    weights = sampling_weights(make_job(imbalance="balanced_sampler"), records("kind", cells))
    assert weights is not None
    assert weights[:3].sum() == pytest.approx(weights[3])
    assert weights[4] == pytest.approx(weights[:4].mean())


def test_without_a_balanced_sampler_rows_have_no_weights():
    assert sampling_weights(make_job(), records("kind", ["a", "b"])) is None


def test_a_shared_encoder_keeps_its_settings_when_the_input_that_shares_it_comes_first():
    front = {"encoder": "compact/image", "options": {"image_size": 32}}
    for frozen in (False, True):
        own = {"frozen": True} if frozen else {"learning_rate_scale": 0.5}
        inputs = {"back": {"share": "front"}, "front": {**front, **own}}
        transfer = {"strategy": "finetune"}
        job = parse_job({"inputs": inputs, "fusion": {"name": "concat"}, "tasks": {"kind": {}}, "transfer": transfer})
        model = build_model(job, build_encoders(job.inputs, Path()), {"kind": {"labels": ["a", "b"]}})
        groups = build_strategy(job, model).plan(model, 1)[0].groups
        assert [(group.name, group.lr_scale) for group in groups[1:]] == ([] if frozen else [("encoder.back", 0.5)])


@pytest.mark.parametrize("own, scale", [(None, 1.0), (0.3, 0.3)])
def test_weights_are_fine_tuned_at_the_rate_that_suits_them_unless_the_job_says_another(own, scale):
    inputs = {"image": {"encoder": "compact/image", "weights": "pretrained"}}
    job = parse_job(
        {"inputs": inputs, "tasks": {"kind": {}}, "transfer": {"strategy": "finetune", "encoder_scale": own}}
    )
    model = build_model(job, build_encoders(job.inputs, Path()), {"kind": {"labels": ["a", "b"]}})
    assert build_strategy(job, model).plan(model, 1)[0].groups[1].lr_scale == scale
    assert find_encoder("torchvision/resnet18").learning_rate_scale == 0.1


@pytest.mark.parametrize(
    ("transfer", "scale"), [({}, 1.0), ({"encoder_scale": 0.3}, 0.3), ({"two_phase": {"learning_rate": 0.5}}, 1.0)]
)
def test_two_phases_have_a_rate_of_their_own_that_encoders_share_unless_the_job_says_another(transfer, scale):
    inputs = {"image": {"encoder": "compact/image", "weights": "pretrained"}}
    job = parse_job({"inputs": inputs, "tasks": {"kind": {}}, "transfer": {"strategy": "two_phase", **transfer}})
    model = build_model(job, build_encoders(job.inputs, Path()), {"kind": {"labels": ["a", "b"]}})
    finetune = build_strategy(job, model).plan(model, 4)[-1]
    assert finetune.groups[1].lr_scale == scale
    assert finetune.optimizer is not None
    assert finetune.optimizer.learning_rate == transfer.get("two_phase", {}).get("learning_rate", 1e-4)


def test_partial_begins_at_the_last_depth_group_unless_the_job_says_another():
    for own, start in ((None, -1), (2, 2), (0, 0)):
        transfer = {"strategy": "partial", "unfreeze_from": own}
        job = parse_job({"inputs": {"text": {"encoder": "compact/text"}}, "tasks": {"k": {}}, "transfer": transfer})
        model = build_model(job, build_encoders(job.inputs, Path()), {"k": {"labels": ["a", "b"]}})
        strategy = build_strategy(job, model)
        assert isinstance(strategy, Partial)
        assert [phase.name for phase in strategy.plan(model, 1)] == [f"from_{start}"]


@pytest.mark.parametrize("name", ["compact/audio", "torchvision/resnet18", "timm/test_vit3"])
def test_a_folder_of_data_that_is_called_like_an_encoder_is_not_taken_for_it(name, tmp_path):
    (tmp_path / name.partition("/")[2]).mkdir()
    assert build_encoder("x", Input(encoder=name, weights=None), tmp_path).name == name


def test_a_family_takes_the_folder_beside_the_job(tmp_path):
    (tmp_path / "mine").mkdir()
    with pytest.raises(ConfigError, match=re.escape(f"{tmp_path / 'mine'}")):
        build_encoder("x", Input(encoder="transformers/mine"), tmp_path)
