"""From a run to a bundle."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from support.assertions import full_disk
from support.bundles import CONFIG, StubRun, fake_graph, make_three_input_model

from export import Bundle, BundleError, ParityError, export_bundle
from export.bundle_writer import exported_provenance
from export.card import is_non_commercial, model_card
from multimodal.config import Job
from multimodal.records import ManifestError, read_records
from multimodal.runtime.files import UnwritableFileError


def test_the_bundle_says_what_made_it(bundle: Bundle) -> None:
    assert bundle.name == "fruit"
    assert bundle.models == {"fp32": "model.onnx"}
    assert bundle.opset == 20
    assert bundle.libraries["torch"] == torch.__version__.partition("+")[0]
    provenance = bundle.read_json("provenance.json")
    assert Job.model_validate(provenance["config"]) == Job.model_validate(CONFIG)
    assert provenance["encoders"]["photo"]["licence"] == "MIT"
    assert bundle.read_json("metrics.json")["tasks"]["color"]["n"] == 9
    assert bundle.read_json("tasks/price.json") == {
        "type": "regression",
        "decoding": {"kind": "destandardize", "mean": 3.5, "std": 1.5, "unit": "EUR"},
    }


def test_real_records_are_among_those_compared_on(bundle: Bundle) -> None:
    report = bundle.read_json("parity.json")["models"]["model.onnx"]
    assert report["cases"][-1]["name"] == "records"
    assert report["cases"][-1]["sizes"]["text.present"] == [9]
    assert report["sha256"] == bundle.files["model.onnx"].sha256


def test_the_model_card_shows_tasks_metrics_licences_and_loading(bundle: Bundle) -> None:
    card = (bundle.folder / "README.md").read_text()
    assert "| price | regression |" in card
    assert "| color | accuracy | 0.9 | 0.8 to 0.95 |" in card
    assert "| photo | image | image | random | MIT |" in card
    assert 'mm.Predictor.load("path/to/this/folder")' in card
    assert '{"photo": "photo.jpg", "text": "a few words", "sound": "audio.wav"}' in card


def test_a_card_without_metrics_or_origin_says_so(bundle: Bundle) -> None:
    card = model_card(bundle, {}, {})
    assert "None were measured." in card
    assert "| photo | image | image | unknown | unknown |" in card


def test_the_card_names_the_input_whose_weights_are_not_for_commercial_use(bundle: Bundle) -> None:
    licences = {"photo": "CC-BY-NC-4.0", "text": "cc-by-4.0", "sound": "unknown"}
    origin = {name: {"weights": "pretrained", "licence": licence} for name, licence in licences.items()}
    card = model_card(bundle, {}, {"encoders": origin})
    sentence = "**Not for commercial use:** the encoder of input `photo` began with weights (pretrained) under CC-BY-NC"
    assert sentence in card
    assert card.count("Not for commercial use") == 1
    assert "Not for commercial use" not in (bundle.folder / "README.md").read_text()


@pytest.mark.parametrize(
    ("licence", "expected"),
    [
        ("CC-BY-NC-4.0", True),
        ("cc-by-nc-sa-4.0", True),
        ("CC BY-NC 4.0", True),
        ("CC-BY-4.0", False),
        ("NCSA", False),
        ("unknown", False),
    ],
)
def test_a_licence_that_says_nc_is_non_commercial(licence: str, expected: bool) -> None:
    assert is_non_commercial(licence) is expected


def test_paths_of_the_training_machine_stay_there(run: StubRun) -> None:
    config = json.loads(json.dumps(CONFIG))
    config["data"] = {"train": "/home/ann/data/train.csv", "valid": "val.csv"}
    config["inputs"]["photo"] |= {"encoder": "transformers//home/ann/models/clip", "weights": "/home/ann/run"}
    config["tasks"]["price"]["unit"] = "/kg"
    provenance = exported_provenance(replace(run, job=Job.model_validate(config)))
    assert "ann" not in json.dumps(provenance)
    made = provenance["config"]
    assert (made["data"]["train"], made["data"]["valid"]) == ("train.csv", "val.csv")
    assert (made["inputs"]["photo"]["encoder"], made["inputs"]["photo"]["weights"]) == ("transformers/clip", "run")
    assert made["tasks"]["price"]["unit"] == "/kg"


def test_without_readable_records_golden_ones_are_synthetic(
    run: StubRun, bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_graph(bundle, monkeypatch)
    for index, records in enumerate([None, read_records([{"image": "no.png"}, {}], root=tmp_path)]):
        made = export_bundle(replace(run, records=records), tmp_path / str(index), embedding=True)
        assert made.folder == tmp_path / str(index)
        assert made.read_json("golden/answers.json")["source"] == "invented"
        assert "records" not in [
            case["name"] for case in made.read_json("parity.json")["models"]["model.onnx"]["cases"]
        ]


def test_records_that_are_given_go_before_those_of_the_run(
    run: StubRun, bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_graph(bundle, monkeypatch)
    made = export_bundle(run, tmp_path / "new", records=[{}, {"text": "red"}, {"text": "blue"}], embedding=True)
    assert made.read_json("golden/answers.json")["rows"] == [1, 2]


@pytest.mark.parametrize("given", ["records", "calibration"])
def test_a_misspelt_column_of_records_that_are_given_is_an_error(run: StubRun, tmp_path: Path, given: str) -> None:
    wrong: Any = {given: [{"imaeg": "0.png", "text": "red"}]}
    with pytest.raises(ManifestError, match="has no column 'image' but 'imaeg'; rename it, or add an empty column"):
        export_bundle(run, tmp_path / "new", precision="int8", **wrong)
    assert list(tmp_path.iterdir()) == []


def test_what_fails_parity_is_not_written(
    bundle: Bundle, run: StubRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_graph(bundle, monkeypatch)
    other = replace(run, model=make_three_input_model(seed=1))
    with pytest.raises(ParityError, match="the ONNX graph does not give the outputs of the model"):
        export_bundle(other, tmp_path / "new", embedding=True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_full_disk_names_the_file_and_leaves_no_bundle(run: StubRun, tmp_path: Path) -> None:
    with full_disk(10_000), pytest.raises(UnwritableFileError, match=r"model\.onnx cannot be written"):
        export_bundle(run, tmp_path / "bundle")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("precision", ["float", ["fp16", "bf16"]])
def test_other_precisions_are_refused(run: StubRun, tmp_path: Path, precision: str | list[str]) -> None:
    with pytest.raises(ValueError, match=r"precision is '(float|bf16)'; give fp32, fp16, int8, or several of them"):
        export_bundle(run, tmp_path / "new", precision=precision)


def test_a_folder_with_something_in_it_is_refused(run: StubRun, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(BundleError, match="is not an empty folder"):
        export_bundle(run, tmp_path)


def test_json_is_utf8(bundle: Bundle) -> None:
    for path in bundle.folder.rglob("*.json"):
        json.loads(path.read_text(encoding="utf-8"))
