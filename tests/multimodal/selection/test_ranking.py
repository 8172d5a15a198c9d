"""Ranking of whole jobs: planted candidates, earlier runs, the command, and --encoder auto."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from support.known_transfer import color_rows, plant
from typer.testing import CliRunner

import multimodal as mm
from encoders import EncoderInfo
from encoders.local import has_local_weights
from encoders.weights.download import kept_file
from multimodal.cli import app
from multimodal.config import Candidate, ConfigError
from multimodal.records import RecordError
from multimodal.run import RunError

CANDIDATES = ["planted/scrambled", "planted/wide", "planted/plain", "planted/plain@random"]


@pytest.fixture(autouse=True)
def _planted_encoders(monkeypatch):
    plant(monkeypatch)


def make_job(**changes: Any) -> mm.Job:
    values: dict[str, Any] = {
        "data": {"workers": 0},
        "inputs": {"text": {"encoder": "planted/scrambled", "candidates": CANDIDATES}},
        "fusion": {"name": "concat"},
        "tasks": {"color": {}},
        "train": {"epochs": 1, "batch_size": 8},
    }
    return mm.Job.model_validate({**values, **changes})


def ranked(job: mm.Job | None = None, rows: list[dict[str, Any]] | None = None, **options: Any) -> dict[str, Any]:
    rows = color_rows(45) if rows is None else rows
    return mm.rank(make_job() if job is None else job, train=rows, valid=rows[:6], cache=False, **options)


def test_what_tells_the_classes_ranks_first_and_the_smaller_of_equals_is_chosen():
    found = ranked()
    names = [one["encoder"] for one in found["candidates"]]
    assert names[-1] == "planted/scrambled"
    assert set(names[:2]) <= {"planted/plain", "planted/plain@random", "planted/wide"}
    assert found["best"] in ("planted/plain", "planted/plain@random")  # not the wide one
    score = found["candidates"][0]["score"]
    assert score["value"] == 1.0
    assert set(score) == {"value", "low", "high"}
    assert (found["folds"], found["repeats"], found["tasks"]) == (5, 1, {"color": 45})
    assert found["tau"] is not None


def test_the_order_of_the_candidates_changes_nothing():
    again = ranked(encoders=list(reversed(CANDIDATES)))
    plain = ranked(encoders=CANDIDATES)
    for found in (again, plain):
        for one in found["candidates"]:
            one["seconds"] = 0.0
    assert again == plain


def test_a_second_ranking_reads_no_value_again(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("MULTIMODAL_CACHE", str(tmp_path))
    for _ in range(2):
        mm.rank(make_job(), train=color_rows(30), valid=color_rows(6), encoders=["planted/plain"])
    assert sum("(3 new in " in line for line in caplog.messages) == 1
    assert sum("(none new)" in line for line in caplog.messages) == 1


def test_without_candidates_those_with_weights_on_this_machine_are_compared(monkeypatch):
    monkeypatch.setattr("multimodal.selection.candidates.list_encoders", lambda modality: [])
    bare = make_job(inputs={"text": {"encoder": "planted/plain"}})
    assert [one["encoder"] for one in ranked(bare)["candidates"]] == ["planted/plain"]
    monkeypatch.undo()
    assert has_local_weights(EncoderInfo("compact/text", "text", source="multimodal-transfer", has_weights=True))
    assert not has_local_weights(EncoderInfo("transformers/*", "any", has_weights=True))
    assert not has_local_weights(EncoderInfo("mine/random", "text"))


def test_torchvisions_weights_count_once_their_file_is_in_torchs_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    info = EncoderInfo("torchvision/resnet18", "image", source="torchvision", has_weights=True)
    assert not has_local_weights(info)
    file = kept_file("https://download.pytorch.org/models/resnet18-f37072fd.pth")
    file.parent.mkdir(parents=True)
    file.touch()
    assert has_local_weights(info)
    wav2vec2 = EncoderInfo("torchaudio/wav2vec2_base", "audio", source="torchaudio", has_weights=True)
    assert not has_local_weights(wav2vec2)


def test_an_earlier_run_is_a_candidate_with_what_its_head_and_its_records_say(tmp_path):
    table = tmp_path / "source.csv"
    pd.DataFrame(color_rows(30)).to_csv(table, index=False)
    source = make_job(
        inputs={"text": {"encoder": "planted/plain"}}, train={"epochs": 20, "batch_size": 8, "learning_rate": 0.05}
    )
    run = mm.fit(source, train=str(table), valid=color_rows(9), out=tmp_path / "source", cache=False)
    found = ranked(encoders=[str(run.folder), "planted/plain"])
    by_name = {one["encoder"]: one for one in found["candidates"]}
    earlier = by_name[f"planted/plain@{run.folder}"]
    assert earlier["weights"] == str(run.folder)
    assert -1.0 < earlier["leep"] <= 0  # three classes by chance: -1.099
    assert -0.01 < earlier["nce"] <= 0  # its answers are these very classes
    assert abs(earlier["a_distance"]) < 1.0
    assert by_name["planted/plain"]["leep"] is by_name["planted/plain"]["a_distance"] is None


def test_records_without_the_input_take_no_part():
    rows = color_rows(45)
    for row in rows[:9]:
        row["text"] = ""
    assert ranked(rows=rows, encoders=["planted/plain"])["tasks"] == {"color": 36}


def test_a_record_that_cannot_be_read_stops_or_is_listed():
    rows: list[dict[str, Any]] = [*color_rows(30), {"text": ["no", "text"], "color": "blue"}]
    with pytest.raises(RecordError, match="row 31, column text: a text cannot be a list"):
        ranked(rows=rows, encoders=["planted/plain"])
    job = make_job(data={"workers": 0, "on_error": "skip"})
    found = ranked(job, rows=rows, encoders=["planted/plain"])
    assert list(found["skipped_rows"]) == ["30"]


@pytest.mark.parametrize(
    "changes, options, message",
    [
        ({}, {"encoders": ["planted/plain", "planted/plain"]}, "the candidate 'planted/plain' is given twice"),
        ({}, {"encoders": ["planted/plian"]}, "there is no encoder 'planted/plian'; did you mean"),
        ({}, {"encoders": ["planted/plain@"]}, r"--encoder 'planted/plain@': names no encoder; give NAME"),
        ({}, {"input": "photo"}, r"--input 'photo': there is no such input"),
        ({"tasks": {"price": {"type": "regression"}}}, {}, "no classification task uses it"),
        (
            {"inputs": {name: {"column": "text", "encoder": "planted/plain"} for name in ("one", "two")}},
            {},
            "there are several inputs to rank encoders for; name one: --input one or two",
        ),
    ],
)
def test_what_cannot_be_ranked_is_said(changes, options, message):
    rows = [row | {"price": str(index)} for index, row in enumerate(color_rows(20))]
    with pytest.raises(ConfigError, match=message):
        ranked(make_job(**changes), rows=rows, **options)


def test_classes_of_one_record_cannot_be_ranked_by():
    rows = [{"text": word, "color": word} for word in ("blue", "green", "red")]
    with pytest.raises(ConfigError, match=r"no task has two records of a class that have this input"):
        ranked(rows=rows)


def test_a_run_of_another_modality_or_of_several_encoders_is_refused(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "model.json").write_text(json.dumps({"inputs": {"image": {"encoder": "compact/image"}}}))
    with pytest.raises(ConfigError, match=r"has 0 encoders that read text \(none\); give ENCODER@"):
        ranked(encoders=[str(folder)])


def test_short_forms_of_candidates():
    short = Candidate.model_validate("torchvision/resnet18@random")
    assert (short.encoder, short.weights, short.label) == ("torchvision/resnet18", None, "torchvision/resnet18@random")
    assert Candidate.model_validate("compact/text").weights == "default"
    assert Candidate.model_validate("compact/text@runs/a").label == "compact/text@runs/a"
    with pytest.raises(ValueError, match="names no encoder; give NAME, NAME@random"):
        Candidate.model_validate("@random")
    with pytest.raises(ValueError, match="new_layers and candidates belong to the encoder"):
        make_job(inputs={"a": {"encoder": "planted/plain"}, "b": {"share": "a", "candidates": ["planted/wide"]}})


# --- train --encoder auto ---


def test_auto_trains_the_winner_keeps_the_ranking_and_goes_on_with_the_same(tmp_path, caplog):
    options = {"train": color_rows(45), "valid": color_rows(9), "cache": False}
    run = mm.fit(make_job(), **options, out=tmp_path / "run", encoder="auto")
    ranking = json.loads((run.folder / "ranking.json").read_text())["text"]
    assert f"text: --encoder auto takes {ranking['best']}, of 4 candidates" in caplog.messages
    assert run.job.inputs["text"].encoder == "planted/plain"
    (run.folder / "metrics.json").unlink()  # as if it had been killed before its end
    caplog.clear()
    again = mm.fit(make_job(), **options, out=tmp_path / "run", encoder="auto", resume=True)
    assert not any("encoding by" in line for line in caplog.messages)
    assert again.job == run.job
    with pytest.raises(RunError, match="is not empty; add --resume"):
        mm.fit(make_job(), **options, out=tmp_path / "run", encoder="auto")


def test_auto_without_candidates_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"no input has candidates to choose from; list them in inputs.NAME.cand"):
        mm.fit(
            make_job(inputs={"text": {"encoder": "planted/plain"}}),
            train=color_rows(20),
            encoder="auto",
            out=tmp_path / "a",
        )


# --- the command ---


@pytest.fixture
def config(tmp_path) -> Path:
    pd.DataFrame(color_rows(45)).to_csv(tmp_path / "train.csv", index=False)
    job = make_job(data={"train": "train.csv", "workers": 0})
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(job.model_dump(exclude_unset=True)))
    return tmp_path / "job.yaml"


def test_the_command_shows_the_table_and_the_choice(config, tmp_path):
    arguments = ["rank", str(config), "--encoder", "planted/plain", "--encoder", "planted/scrambled"]
    done = CliRunner().invoke(app, [*arguments, "--out", str(tmp_path / "rank.json")])
    assert done.exit_code == 0, done.output
    assert "encoder\taccuracy\t95% interval\tLogME\tLEEP\tNCE\tA-distance\tseconds\tparameters\n" in done.output
    assert "\nplanted/plain\t1\t" in done.output
    assert "best: planted/plain (fewest parameters within one standard error of the highest score)\n" in done.output
    assert json.loads((tmp_path / "rank.json").read_text())["best"] == "planted/plain"


def test_the_command_line_takes_auto_and_nothing_else(config, tmp_path):
    done = CliRunner().invoke(app, ["train", str(config), "--encoder", "auto", "--out", str(tmp_path / "run")])
    assert done.exit_code == 0, done.output
    assert "text: --encoder auto takes planted/plain" in done.output
    assert CliRunner().invoke(app, ["train", str(config), "--encoder", "planted/plain"]).exit_code == 2
    assert CliRunner().invoke(app, ["train", str(config), "--encoder", "auto", "--folds", "3"]).exit_code == 2
