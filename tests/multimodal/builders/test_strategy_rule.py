"""The rule for few labels: which strategy auto means, and that the run says why."""

from pathlib import Path
from typing import Any

import pytest
from support.tiny_pretrained import shop_job

import multimodal as mm
from multimodal.builders.encoders import build_encoders
from multimodal.builders.strategy_rule import TransferChoice, choose_transfer, records_per_class
from multimodal.builders.training import build_strategy
from multimodal.config import ConfigError, Transfer
from multimodal.records import read_records
from multimodal.training import fit

pytestmark = pytest.mark.usefixtures("planted_encoders")


def choose(*counts: int, encoder: str = "planted/words", target: Any = None, **transfer: Any) -> TransferChoice:
    """Strategy that auto means for a table with so many records of each class."""
    task = mm.Job.model_validate({
        "inputs": {"text": {"encoder": encoder}},
        "tasks": {"kind": target or {}},
        "transfer": {"strategy": "auto", **transfer},
    })  # fmt: skip
    rows = [{"text": "red", "kind": str(index)} for index, count in enumerate(counts) for _ in range(count)]
    return choose_transfer(task, build_encoders(task.inputs, Path()), read_records(rows))


@pytest.mark.parametrize(
    ("count", "strategy", "start", "rule"),
    [
        (1, "probe_then_finetune", -1, "at most 20 records per class"),
        (20, "probe_then_finetune", -1, "at most 20 records per class"),
        (21, "probe_then_finetune", -2, "20 to 100 records per class"),
        (100, "probe_then_finetune", -2, "20 to 100 records per class"),
        (101, "probe_then_finetune", None, "more than 100 records per class"),
    ],
)
def test_the_more_records_per_class_the_more_of_an_encoder_is_changed(count, strategy, start, rule):
    choice = choose(count, count, count)
    assert (choice.transfer.strategy, choice.transfer.unfreeze_from) == (strategy, start)
    assert choice.rule == f"{rule}; half of the classes of kind have at most {count}"


def test_the_class_in_the_middle_counts_so_that_one_rare_class_freezes_nothing():
    assert choose(1, 30, 40).rule == "20 to 100 records per class; half of the classes of kind have at most 30"


def test_of_several_tasks_the_one_with_the_fewest_counts():
    task = mm.Job.model_validate({
        "inputs": {"text": {"encoder": "planted/words"}},
        "tasks": {"many": {}, "few": {}, "size": {"type": "regression"}},
    })  # fmt: skip
    rows = [{"text": "red", "many": str(i % 2), "few": str(i) if i < 10 else None, "size": i} for i in range(80)]
    records = read_records(rows)
    assert records_per_class(task, records) == {"many": 40, "few": 1}
    assert choose_transfer(task, build_encoders(task.inputs, Path()), records).rule.startswith("at most 20")


def test_small_encoders_are_never_frozen_blindly():
    choice = choose(1, 1, encoder="planted/small")
    assert choice.transfer.strategy == "finetune"
    assert choice.rule == "the weights of planted/small know little and have to move"


@pytest.mark.parametrize("changes", [{"weights": None}, {"frozen": True}])
def test_without_weights_that_may_change_there_is_nothing_to_protect(changes):
    task = mm.Job.model_validate({
        "inputs": {"text": {"encoder": "planted/words", **changes}}, "tasks": {"kind": {}}
    })  # fmt: skip
    choice = choose_transfer(task, build_encoders(task.inputs, Path()), read_records([{"text": "a", "kind": "b"}] * 3))
    assert choice.transfer.strategy == "finetune"
    assert choice.rule == "no encoder that may train comes with weights"


def test_without_classes_everything_is_fine_tuned():
    assert choose(2, 2, target={"type": "regression"}).rule == "no task has classes to count records of"


def test_a_depth_that_is_given_stays_and_a_strategy_that_is_named_needs_no_rule():
    assert choose(5, 5, unfreeze_from=1).transfer.unfreeze_from == 1
    named = choose(5, 5, strategy="partial")
    assert named == TransferChoice(Transfer(strategy="partial"), None)
    assert str(named) == "partial from the last depth group"
    assert str(choose(5, 5, strategy="finetune")) == "finetune"
    assert str(choose(5, 5, strategy="partial", unfreeze_from=1)) == "partial from depth group 1"


def test_the_line_names_strategy_depth_and_rule():
    assert str(choose(31, 31)) == (
        "probe_then_finetune from the last 2 depth groups "
        "(rule: 20 to 100 records per class; half of the classes of kind have at most 31)"
    )


def test_a_run_says_the_rule_keeps_it_and_resumes(shop, tmp_path, caplog):
    task = shop_job(shop, **{"transfer.strategy": "auto", "train.epochs": 1})
    run = fit(task, out=tmp_path / "run")
    assert [line for line in caplog.messages if line.startswith("transfer: ")] == [
        "transfer: probe_then_finetune from the last depth group "
        "(rule: at most 20 records per class; half of the classes of color have at most 5)"
    ]
    kept = run.metrics["training"]["transfer"]
    assert kept == run.provenance["transfer"]
    assert (kept["strategy"], kept["unfreeze_from"]) == ("probe_then_finetune", -1)
    assert run.job.transfer.strategy == "auto"  # so that the config is still that of the job
    (run.folder / "metrics.json").unlink()
    fit(task, out=tmp_path / "run", resume=True)


def test_auto_is_no_strategy_to_build(tmp_path):
    task = shop_job(tmp_path, **{"transfer.strategy": "auto"})
    with pytest.raises(ConfigError, match="which depends on the training records; take what choose_transfer gives"):
        build_strategy(task, None)
