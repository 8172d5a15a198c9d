"""onnxruntime tells nobody what it runs: it makes neither an identifier nor a queue of what is to be sent."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

LOADERS = (
    "export.session",
    "export.serving.service",
    "export.quantize",
    "encoders.testing",
    "multimodal.features.engines",
)
OWN = ("ORT_DISABLE_TELEMETRY", "ORT_RUNNING_UNIT_TESTS", "XDG_CACHE_HOME", "CI", "TF_BUILD", "GITHUB_ACTIONS")


def files_after(code: str, home: Path, **environment: str) -> list[Path]:
    """Files that a process of that home leaves in it."""
    kept = {name: value for name, value in os.environ.items() if name not in OWN}
    command = [sys.executable, "-c", f"{code}\nimport onnxruntime"]
    subprocess.run(command, env={**kept, "HOME": str(home), **environment}, check=True, capture_output=True)
    return [path for path in home.rglob("*") if path.is_file() and "onnxruntime" in str(path)]


@pytest.mark.parametrize("module", LOADERS)
def test_who_loads_onnxruntime_through_us_sends_nothing(module, tmp_path):
    assert files_after(f"import {module}", tmp_path) == []


def test_who_wants_to_send_it_may(tmp_path):
    code = "import os, export\nassert os.environ['ORT_DISABLE_TELEMETRY'] == '0'"
    files_after(code, tmp_path, ORT_DISABLE_TELEMETRY="0")
