"""Several processes give what one gives."""

import json
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.assertions import assert_close
from support.distributed_runs import run_worker

from multimodal.runtime.checkpoint import load_newest_checkpoint

WORKER = Path(__file__).with_name("ddp_worker.py")


ALIKE = ("fixed", "uncertainty", "pcgrad", "dann")


@dataclass(frozen=True)
class Trained:
    """Every kind trained by one process and by two, each in a folder of its name."""

    one: Path
    two: Path
    shown: str
    """What the two said."""


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("distributed")
    one, two, media = folder / "one", folder / "two", folder / "media"
    run_worker(WORKER, one, media, *ALIKE, world=1)
    return Trained(one, two, run_worker(WORKER, two, media, *ALIKE, "batch", "corrupt", world=2))


@pytest.mark.slow
@pytest.mark.parametrize("weighting", ALIKE)
def test_two_processes_give_the_losses_and_weights_of_one(trained, weighting):
    folders = trained.one / weighting, trained.two / weighting
    one, two = (json.loads((folder / "losses.json").read_text()) for folder in folders)
    assert len(one) == 3
    assert_close(two, one, "float32")
    left, right = (load_newest_checkpoint(folder / "checkpoints") for folder in folders)
    assert left is not None
    assert right is not None
    learned = any("log_variances" in name for name in left.tensors)
    assert learned == (weighting == "uncertainty")
    for name, value in left.tensors.items():
        if name.endswith("tally"):
            continue  # counted in the main process alone
        assert_close(value, right.tensors[name], "steps")


@pytest.mark.slow
def test_a_batchnorm_that_trains_in_several_cpu_processes_is_warned_of(trained):
    assert trained.shown.count("which see only their own process's records on CPUs") == 1


@pytest.mark.slow
def test_records_that_any_process_skipped_are_listed(trained):
    assert json.loads((trained.two / "corrupt" / "skipped.json").read_text()) == [row for row in range(13) if row != 4]
