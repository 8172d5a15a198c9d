"""Contrastive tasks in a job's description."""

from typing import Any

import pytest
from support.assertions import changed

from multimodal.config import ConfigError, parse_job
from multimodal.config.pair_rules import are_views, evaluation_views

JOB: dict[str, Any] = {
    "inputs": {
        "image": {"encoder": "compact/image"},
        "other": {"column": "image", "share": "image"},
        "text": {"encoder": "compact/text"},
    },
    "fusion": {"name": "late"},
    "tasks": {"match": {"type": "contrastive", "inputs": ["image", "other"]}},
}


def make_job(**changes: Any) -> dict[str, Any]:
    return changed(JOB, changes)


def refused(match: str, **changes: Any) -> None:
    with pytest.raises(ConfigError, match=match):
        parse_job(make_job(**changes))


@pytest.mark.parametrize(
    ("inputs", "match"), [(None, r"has 3 \(image, other, text\)"), (["image"], r"has 1 \(image\)")]
)
def test_a_contrastive_task_compares_two_inputs(inputs, match):
    refused(
        f"tasks.match: .* {match}; set tasks.match.inputs to two of image, other, text",
        **{"tasks.match.inputs": inputs},
    )


def test_an_input_that_is_named_twice_is_one_input():
    refused("this one has 1", **{"tasks.match.inputs": ["image", "image"]})


@pytest.mark.parametrize(
    ("fusion", "given"),
    [({}, "attention"), ({"name": "gated"}, "gated"), ({"name": "concat", "dim": 8}, "concat with dim")],
)
def test_a_fusion_that_mixes_its_inputs_is_refused(fusion, given):
    refused(f"tasks alone .* and {given} mixes them; set fusion.name: late, or concat without dim", fusion=fusion)


def test_beside_a_task_with_labels_any_fusion_and_modality_dropout_are_taken():
    label = {"tasks.label": {"inputs": ["image", "text"]}}
    fusions: list[dict[str, Any]] = [{}, {"name": "gated"}, {"name": "concat", "dim": 8, "modality_dropout": 0.1}]
    for fusion in fusions:
        assert parse_job(make_job(fusion=fusion, **label)).tasks["match"].type == "contrastive"


def test_a_fusion_that_keeps_them_apart_is_taken():
    assert parse_job(make_job(fusion={"name": "concat"})).fusion.dim is None


@pytest.mark.parametrize(("dropout", "hidden"), [(0.1, "image and other"), ({"other": 0.2}, "other")])
def test_its_inputs_are_not_hidden_in_training(dropout, hidden):
    fusion = {"name": "concat", "modality_dropout": dropout}
    refused(f"fusion.modality_dropout hides {hidden}; leave it out for them", fusion=fusion)
    parse_job(make_job(fusion={"name": "concat", "modality_dropout": {"text": 0.5}}))


@pytest.mark.parametrize(
    "setting", [{"column": "match"}, {"label_smoothing": 0.1}, {"imbalance": "class_weights"}], ids=str
)
def test_it_has_no_labels(setting):
    changes = {f"tasks.match.{key}": value for key, value in setting.items()}
    refused("belongs to type: .*, and type is contrastive; leave it out", **changes)


def test_it_has_no_column():
    job = parse_job(make_job(**{"tasks.label": {"inputs": ["image", "text"]}}))
    assert (job.task_column("match"), job.label_columns()) == (None, {"label": "label"})


def test_views_read_one_column_through_one_encoder():
    assert are_views(parse_job(JOB), "match")
    assert not are_views(parse_job(make_job(**{"tasks.match.inputs": ["image", "text"]})), "match")
    assert not are_views(parse_job(make_job(**{"inputs.other.column": "back"})), "match")
    own = {"encoder": "compact/image", "column": "image"}
    assert not are_views(parse_job(make_job(**{"inputs.other": own})), "match")


def test_views_are_augmented_in_evaluation_unless_another_task_reads_them():
    assert evaluation_views(parse_job(JOB)) == {"image", "other"}
    both = parse_job(make_job(**{"tasks.label": {"inputs": ["image", "text"]}}))
    assert evaluation_views(both) == {"other"}
    captions = {"type": "contrastive", "inputs": ["image", "text"]}
    assert evaluation_views(parse_job(make_job(**{"tasks.caption": captions}))) == {"other"}
    assert evaluation_views(parse_job(make_job(**{"tasks.match.inputs": ["image", "text"]}))) == set()


def test_another_task_reads_one_view_at_most():
    refused(
        "tasks.label: image and other are two views .* give it one of them, for example tasks.label.inputs: .image.",
        **{"tasks.label": {}},
    )


def test_views_that_are_always_equal_are_refused():
    off = {"enabled": False}
    refused(
        "nothing makes them differ; enable inputs.image.augment or inputs.other.augment",
        **{"inputs.image.augment": off, "inputs.other.augment": off},
    )
    parse_job(make_job(**{"inputs.image.augment": off}))
    refused(
        "nothing makes them differ; enable inputs.other.augment$",
        **{"inputs.other.augment": off, "tasks.label": {"inputs": ["image"]}},
    )


def test_its_metric_chooses_the_best_weights():
    assert parse_job(make_job(**{"train.metric": "match.top1"})).train.metric == "match.top1"
