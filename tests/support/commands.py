"""The command line as tests call it: in this process, or in one that cannot import torch."""

import io
import logging
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout

import pytest

from multimodal.cli import main

WITHOUT_TORCH = """
import sys
class NoTorch:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "transformers", "torchvision", "torchaudio"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, NoTorch())
from multimodal.cli import main
sys.argv = ["multimodal", *sys.argv[1:]]
main()
"""
"""A program: the command line in a process that cannot import torch and its kin."""


def run_command(*arguments: object, torch_free: bool = False) -> subprocess.CompletedProcess[str]:
    """Exit code and output of a command; one that may import torch runs here, where that is loaded already."""
    given = list(map(str, arguments))
    if torch_free:
        command = [sys.executable, "-c", WITHOUT_TORCH, *given]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=240)
    out, err, root = io.StringIO(), io.StringIO(), logging.getLogger()
    level = root.level  # pytest's, at which other packages would show their progress
    root.setLevel(logging.WARNING)
    try:
        with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
            patch.setattr(sys, "argv", ["multimodal", *given])
            patch.setenv("OMP_WAIT_POLICY", "PASSIVE")  # which the command sets for good
            with pytest.raises(SystemExit) as ended:
                main()
    finally:
        root.setLevel(level)
    assert isinstance(ended.value.code, int)
    return subprocess.CompletedProcess(given, ended.value.code, out.getvalue(), err.getvalue())
