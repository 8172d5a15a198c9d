"""Several processes give what one gives."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers import assert_close

from multimodal.checkpoint import load_newest_checkpoint

WORKER = Path(__file__).with_name("ddp_worker.py")


def run_worker(folder: Path, media: Path, *options: str, world: int, norm: str = "group") -> str:
    folder.mkdir()
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={world}"] if world > 1 else []
    root = WORKER.parents[2]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(root), str(root / "tests")]),
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(
        [sys.executable, *launcher, str(WORKER), str(folder), str(media), norm, *options],
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("weighting", ["fixed", "uncertainty", "pcgrad", "dann"])
def test_two_processes_give_the_losses_and_weights_of_one(tmp_path, weighting):
    run_worker(tmp_path / "one", tmp_path / "media", weighting, world=1)
    run_worker(tmp_path / "two", tmp_path / "media", weighting, world=2)
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
        torch.testing.assert_close(value, right.tensors[name], rtol=1e-4, atol=1e-5, msg=name)


@pytest.mark.slow
def test_a_batchnorm_that_trains_in_several_cpu_processes_is_warned_of(tmp_path):
    assert "BatchNorm" in run_worker(tmp_path / "two", tmp_path / "media", world=2, norm="batch")


@pytest.mark.slow
def test_records_that_any_process_skipped_are_listed(tmp_path):
    run_worker(tmp_path / "two", tmp_path / "media", "corrupt", world=2)
    assert json.loads((tmp_path / "two" / "skipped.json").read_text()) == [row for row in range(13) if row != 4]
