"""Several processes give what one gives."""

import json
from pathlib import Path

import pytest
from support.assertions import assert_close
from support.distributed_runs import run_worker

from multimodal.runtime.checkpoint import load_newest_checkpoint

WORKER = Path(__file__).with_name("ddp_worker.py")


@pytest.mark.slow
@pytest.mark.parametrize("weighting", ["fixed", "uncertainty", "pcgrad", "dann"])
def test_two_processes_give_the_losses_and_weights_of_one(tmp_path, weighting):
    run_worker(WORKER, tmp_path / "one", tmp_path / "media", weighting, world=1)
    run_worker(WORKER, tmp_path / "two", tmp_path / "media", weighting, world=2)
    one, two = (json.loads((tmp_path / name / "losses.json").read_text()) for name in ("one", "two"))
    assert len(one) == 3
    assert_close(two, one, "float32")
    left, right = (load_newest_checkpoint(tmp_path / name / "checkpoints") for name in ("one", "two"))
    assert left is not None
    assert right is not None
    learned = any("log_variances" in name for name in left.tensors)
    assert learned == (weighting == "uncertainty")
    for name, value in left.tensors.items():
        if name.endswith("tally"):
            continue  # counted in the main process alone
        assert_close(value, right.tensors[name], "steps")


@pytest.mark.slow
def test_a_batchnorm_that_trains_in_several_cpu_processes_is_warned_of(tmp_path):
    shown = run_worker(WORKER, tmp_path / "two", tmp_path / "media", "batch", world=2)
    assert shown.count("which see only their own process's records on CPUs") == 1


@pytest.mark.slow
def test_records_that_any_process_skipped_are_listed(tmp_path):
    run_worker(WORKER, tmp_path / "two", tmp_path / "media", "corrupt", world=2)
    assert json.loads((tmp_path / "two" / "skipped.json").read_text()) == [row for row in range(13) if row != 4]
