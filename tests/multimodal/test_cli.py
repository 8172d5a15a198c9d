import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from multimodal import __version__
from multimodal.cli import app, errors_as_messages


def run(*arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, arguments)
    return done.exit_code, done.stdout


def test_version_is_shown_without_a_command():
    assert run("--version") == (0, f"multimodal-transfer {__version__}\n")


@pytest.fixture
def config(tmp_path: Path) -> Path:
    rows = "".join(f"absent{number}.png,{'ab'[number % 2]}\n" for number in range(9))
    (tmp_path / "train.csv").write_text(f"image,kind\n{rows}")
    job = "data: {train: train.csv}\ninputs: {image: {encoder: compact/image}}\ntasks: {kind: {}}\n"
    (tmp_path / "job.yaml").write_text(job)
    return tmp_path / "job.yaml"


def test_check_counts_what_repeats_and_shows_it_with_all(config: Path):
    code, shown = run("check", str(config))
    lines = shown.splitlines()
    assert (code, len(lines)) == (1, 6)  # the header, three problems, how many there are more, the sum
    assert lines[4] == "error\ttrain.csv\t\timage\tand 6 more of this column; --all shows them"
    assert lines[5] == f"{config}: 9 errors, 0 warnings"
    code, shown = run("check", str(config), "--all")
    assert (code, len(shown.splitlines())) == (1, 11)


@pytest.mark.parametrize("encoding", ["ascii:strict", "latin-1"])
def test_an_error_with_any_character_is_shown_in_any_encoding(tmp_path: Path, encoding: str):
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    command = [sys.executable, "-m", "multimodal", "encoders", "compact/Żurek"]
    done = subprocess.run(command, capture_output=True, env=environment, check=False)
    assert done.returncode == 1
    assert b"compact/\\u017burek" in done.stderr
    assert b"Traceback" not in done.stderr


def test_a_working_directory_that_is_gone_is_said(tmp_path: Path, monkeypatch, capsys):
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with pytest.raises(SystemExit, match="1"), errors_as_messages(debug=False):
        pytest.fail("not reached")
    assert capsys.readouterr().err == (
        "error: the working directory cannot be used (No such file or directory); change to another folder\n"
    )
    with pytest.raises(OSError, match="the working directory cannot be used"), errors_as_messages(debug=True):
        pytest.fail("not reached")


@pytest.mark.parametrize(
    "arguments",
    [
        ("train", "absent.yaml"),
        ("train", "typo.yaml"),
        ("train", "typo.yaml", "--folds", "3"),
        ("train", "job.yaml", "--set", "train.lr=1"),
        ("train", "no_table.yaml"),
        ("train", "job.yaml", "--set", "inputs.image.encoder=compact/absent"),
        ("rank", "job.yaml", "--set", "inputs.image.encoder=google/absent"),
        ("rank", "typo.yaml"),
        ("transfer-check", "absent.yaml"),
        ("check", "typo.yaml"),
        ("evaluate", "absent", "--data", "train.csv"),
        ("export", "absent", "--out", "bundle"),
        ("explain", "absent", "--data", "train.csv", "--out", "figures"),
        ("predict", "absent", "--image", "a.png"),
        ("serve", "absent"),
    ],
    ids=" ".join,
)
def test_a_mistyped_file_or_key_is_said_before_torch_is_imported(config: Path, arguments: tuple[str, ...]):
    config.with_name("typo.yaml").write_text(config.read_text().replace("encoder", "encodr"))
    config.with_name("no_table.yaml").write_text(config.read_text().replace("train.csv", "trian.csv"))
    code = (
        "import sys; sys.modules['torch'] = None; from multimodal.cli import main; "
        f"sys.argv = ['multimodal', *{arguments!r}]; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=config.parent, check=False)
    assert done.returncode in (1, 2)
    assert "torch" not in done.stderr
    assert re.search("absent|encodr|'lr'|trian.csv", done.stderr)
