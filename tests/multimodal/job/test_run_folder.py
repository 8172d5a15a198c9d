"""Which folders a training may begin in, go on in, or replace."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.logs import shown
from typer.testing import CliRunner

import multimodal as mm
from multimodal.cli import app
from multimodal.config import parse_job
from multimodal.job.run_folder import Destination, is_finished, is_free, is_run, remove_run, run_files, writing
from multimodal.run import RunError

TASK = parse_job({"inputs": {"text": {"encoder": "compact/text"}}, "tasks": {"color": {}}})


def begun(folder: Path, **files: str) -> Path:
    """A run as it is when its training fails in the first epoch; ``files`` beside it, ``__`` for the slash."""
    written = {
        "config.yaml": TASK.to_yaml(),
        "model.json": '{"format": 1, "provenance": {}}',
        "inputs/text/preprocess.json": "{}",
        "inputs/text/tokenizer.json": "{}",
        "history.csv": "epoch\n",
    }
    for name, text in (written | files).items():
        path = folder / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


# --- free, begun, or somebody else's ---


def test_a_folder_that_is_not_there_or_empty_is_free(tmp_path):
    assert is_free(tmp_path / "a")
    assert is_free(tmp_path)


@pytest.mark.parametrize(
    "files",
    [
        {},
        {"ranking.json": "{}"},
        {"checkpoints/.step-000000001.safetensors.partial": "torn"},
        {"transfer.json": "{}", "reliability/color.png": ""},
        {"model.json": "{"},  # torn, and the config is as a run writes it
        {".lock": ""},
    ],
)
def test_a_run_without_a_checkpoint_or_a_result_is_free(tmp_path, files):
    folder = begun(tmp_path / "run", **files)
    assert is_free(folder)
    assert not is_finished(Destination(folder), TASK)
    assert not is_finished(Destination(folder, resume=True), TASK.model_copy(update={"name": "other"}))


@pytest.mark.parametrize(
    "file",
    [
        "checkpoints/step-000000001.safetensors",
        "checkpoints/best.safetensors",
        "checkpoints/soup-000001.safetensors",
        "model.safetensors",
        "metrics.json",
    ],
)
def test_a_run_with_a_checkpoint_or_a_result_is_refused_without_resume_or_overwrite(tmp_path, file):
    folder = begun(tmp_path / "run", **{file: ""})
    assert not is_free(folder)
    with pytest.raises(RunError, match="is not empty; add --resume to continue the run in it, --overwrite to repl"):
        is_finished(Destination(folder), TASK)
    assert is_finished(Destination(folder, resume=True), TASK) == (file == "metrics.json")
    assert not is_finished(Destination(folder, overwrite=True), TASK)


@pytest.mark.parametrize(
    "files",
    [
        {"notes.txt": "mine"},
        {"config.yaml": "inputs: {text: {encoder: compact/text}}\ntasks: {color: {}}\n"},  # a job, not a run of it
        {"inputs/a.jpg": ""},
        {"model.json": "[1]"},
        {"model.json": '{"layers": 3}', "config.yaml": "lr: 1\n"},
        {"checkpoints/step-000000001.safetensors": ""},
        {"metrics.json": "{}"},
        {".answers.csv.progress.json": "{}"},
    ],
)
@pytest.mark.parametrize("options", [{"resume": False}, {"resume": True}, {"resume": False, "overwrite": True}])
def test_a_folder_of_something_else_is_always_refused(tmp_path, files, options):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert not is_free(tmp_path)
    assert not is_run(tmp_path)
    with pytest.raises(RunError, match="is not empty and holds no training run; name another folder"):
        is_finished(Destination(tmp_path, **options), TASK)
    assert names(tmp_path) == set(files)


def test_a_begun_run_with_files_of_others_is_not_free(tmp_path):
    assert not is_free(begun(tmp_path / "run", **{"bundle/model.onnx": ""}))


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "run").write_text("")
    with pytest.raises(RunError, match="holds no training run"):
        is_finished(Destination(tmp_path / "run"), TASK)


# --- replacing ---


@pytest.mark.parametrize(
    "stranger",
    [
        "notes.txt",
        "checkpoints/readme.md",
        "inputs/photos/a.jpg",
        "reliability/mine.svg",
        "bundle/inputs/text/preprocess.json",
        ".answers.csv.partial",
    ],
)
def test_removing_a_run_leaves_what_no_run_writes_and_says_so(tmp_path, stranger, caplog):
    folder = begun(tmp_path / "run", **{stranger: "mine", "checkpoints/best.safetensors": "", "metrics.json": "{}"})
    (folder / "empty").mkdir()
    remove_run(folder)
    assert names(folder) == {stranger}
    assert (folder / "empty").is_dir()
    assert shown(caplog) == [
        f"warning: {folder} holds what no run writes, which is left as it is: "
        + ", ".join(sorted({stranger.partition("/")[0], "empty"}))
    ]


def test_removing_a_run_leaves_an_empty_folder_and_says_nothing(tmp_path, caplog):
    folder = begun(tmp_path / "run", **{"checkpoints/.best.safetensors.partial": ""})
    assert {path.name for path in run_files(folder)} >= {"tokenizer.json", ".best.safetensors.partial"}
    remove_run(folder)
    assert list(folder.iterdir()) == []
    assert caplog.messages == []


def test_a_link_to_another_disk_is_not_followed_out_of_the_run(tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "keep.txt").write_text("mine")
    folder = begun(tmp_path / "run")
    (folder / "data").symlink_to(elsewhere)
    remove_run(folder)
    assert names(elsewhere) == {"keep.txt"}


# --- one training a folder ---


HOLD = """
import sys
from pathlib import Path
from multimodal.job.run_folder import Destination, writing
with writing(Destination(Path(sys.argv[1]))):
    print("mine", flush=True)
    sys.stdin.read()
"""


def test_a_folder_in_which_another_process_trains_is_refused_until_that_ends(tmp_path):
    folder = begun(tmp_path / "run")
    start = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "env": os.environ}
    other = subprocess.Popen([sys.executable, "-c", HOLD, folder], **start)
    assert other.stdout is not None
    assert other.stdout.readline() == "mine\n"
    for options in ({"resume": False, "overwrite": False}, {"resume": True, "overwrite": False}):
        with (
            pytest.raises(RunError, match=r"another process trains in .*; wait until it ends, or name another"),
            writing(Destination(folder, **options)),
        ):
            pass
    other.kill()
    other.communicate()
    with writing(Destination(folder)):
        assert names(folder) == {".lock"}


def test_a_folder_that_was_trained_in_since_it_was_looked_at_is_refused(tmp_path):
    folder = begun(tmp_path / "run", **{"metrics.json": "{}"})
    with (
        pytest.raises(RunError, match="was trained in meanwhile; name another folder"),
        writing(Destination(folder)),
    ):
        pass
    assert "metrics.json" in names(folder)


# --- fit and the command ---


def rows(count: int) -> list[dict[str, str]]:
    return [{"text": f"{'red' if n % 2 else 'blue'} {n}", "color": "red" if n % 2 else "blue"} for n in range(count)]


def make_job(**train: object) -> mm.Job:
    return mm.Job.model_validate(
        {
            "inputs": {"text": {"encoder": "compact/text"}},
            "tasks": {"color": {}},
            "data": {"workers": 0},
            "transfer": {"guard": "off"},
            "train": {"epochs": 1, "batch_size": 8, **train},
        }
    )


def test_a_training_that_failed_in_its_first_epoch_does_not_block_its_folder(tmp_path):
    out, bad = tmp_path / "run", [*rows(20), {"text": 5, "color": "red"}]
    with pytest.raises(ValueError, match="row 21"):
        mm.fit(make_job(), train=bad, valid=rows(4), out=out)
    run = mm.fit(make_job(batch_size=4), train=rows(20), valid=rows(4), out=out)
    assert run.job.train.batch_size == 4


def test_overwrite_replaces_a_run_and_only_once_the_new_one_can_begin(tmp_path):
    out = tmp_path / "run"
    first = mm.fit(make_job(), train=rows(20), out=out)
    (out / "notes.txt").write_text("mine")
    before = first.metrics
    with pytest.raises(ValueError, match="has no column 'color'"):
        mm.fit(make_job(), train=[{"text": "a"}, {"text": "b"}], out=out, overwrite=True)
    assert first.metrics == before
    second = mm.fit(make_job(seed=1), train=rows(20), out=out, overwrite=True)
    assert second.job.train.seed == 1
    assert (out / "notes.txt").read_text() == "mine"
    assert len(list((out / "checkpoints").glob("step-*"))) <= 2


def test_a_run_begun_with_labels_in_another_form_is_not_gone_on_with(tmp_path):
    out, options = tmp_path / "run", {"train": rows(20), "valid": rows(4)}
    mm.fit(make_job(), **options, out=out)
    (out / "metrics.json").unlink()  # as if it had been killed before its end
    content = (out / "model.json").read_text()
    (out / "model.json").write_text(content.replace('"blue"', '"cafe\\u0301"'))
    with pytest.raises(RunError, match=r"was begun with other labels of tasks.color, or in another order; put the rec"):
        mm.fit(make_job(), **options, out=out, resume=True)


def test_resume_and_overwrite_exclude_each_other(tmp_path):
    with pytest.raises(ValueError, match="resume continues a run and overwrite replaces it; give one of them"):
        mm.fit(make_job(), train=rows(20), out=tmp_path, resume=True, overwrite=True)
    with pytest.raises(ValueError, match="resume continues folds and overwrite replaces them; give one of them"):
        mm.cross_validate(make_job(), 2, train=rows(20), out=tmp_path, resume=True, overwrite=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [(["--overwrite"], "name the run to replace"), (["--overwrite", "--resume", "--out", "a"], "leave --resume out")],
)
def test_the_command_says_what_overwrite_needs(tmp_path, options, message):
    (tmp_path / "job.yaml").write_text(make_job().to_yaml())
    done = CliRunner().invoke(app, ["train", str(tmp_path / "job.yaml"), *options])
    assert done.exit_code == 2
    assert message in done.output
