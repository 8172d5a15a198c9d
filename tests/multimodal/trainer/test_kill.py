"""SIGKILL at random steps and in the middle of writing: the resumed run ends with the same bytes."""

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

WORKER = Path(__file__).with_name("kill_worker.py")


def run_worker(folder: Path, media: Path, moment: str | None = None) -> int:
    folder.mkdir(exist_ok=True)
    root = WORKER.parents[3]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(root), str(root / "tests")])}
    command = [sys.executable, str(WORKER), str(folder), str(media), *([moment] if moment is not None else [])]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode in (0, -signal.SIGKILL), done.stderr[-3000:]
    return done.returncode


@pytest.mark.slow
def test_a_run_killed_again_and_again_ends_with_the_bytes_of_an_uninterrupted_one(tmp_path):
    assert run_worker(tmp_path / "whole", tmp_path / "media") == 0
    rng = random.Random(5)
    moments = [f"step:{rng.randint(1, 6)}", f"write:{rng.randint(1, 3)}", f"step:{rng.randint(1, 4)}", "write:1"]
    codes = [run_worker(tmp_path / "killed", tmp_path / "media", moment) for moment in moments]
    assert codes == [-signal.SIGKILL] * len(moments)
    assert run_worker(tmp_path / "killed", tmp_path / "media") == 0
    for name in ("model.safetensors", "history.csv"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name
