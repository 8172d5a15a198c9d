"""Encoders of ONNX files in a job: trained over, exported into one graph, served."""

import json
import logging
from pathlib import Path

import numpy as np
import onnx
import pandas as pd
import pytest
import soundfile
from PIL import Image
from support.assertions import assert_close
from support.onnx_files import chain, image_file, text_file
from support.tiny_models import COLORS

import multimodal as mm
from export import Predictor, verify_bundle
from export.to_onnx import OnnxError, to_onnx
from multimodal.selection.arm_features import random_twins

HERTZ = {"blue": 300, "green": 900, "red": 2000}


def write_table(folder: Path, count: int) -> None:
    rng = np.random.default_rng(0)
    rows = []
    for index in range(count):
        color = list(COLORS)[index % 3]
        Image.fromarray(np.full((20, 20, 3), COLORS[color], np.uint8)).save(folder / f"{index}.png")
        time = np.arange(rng.integers(1000, 4000)) / 8000
        waveform = 0.3 * np.sin(2 * np.pi * HERTZ[color] * time) + 0.01 * rng.normal(size=len(time))
        soundfile.write(folder / f"{index}.wav", waveform, 8000)
        text, audio = "" if index % 5 == 0 else f"{color} thing", "" if index % 7 == 0 else f"{index}.wav"
        rows.append({"image": f"{index}.png", "text": text, "audio": audio, "color": color})
    pd.DataFrame(rows).to_csv(folder / "table.csv", index=False)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> mm.Run:
    folder = tmp_path_factory.mktemp("onnx")
    write_table(folder, 42)
    image_file(folder / "image" / "model.onnx", last=True)
    text_file(folder / "text" / "model.onnx")
    chain(folder / "audio")
    (folder / "job.yaml").write_text(
        """
data: {train: table.csv, valid: table.csv}
inputs:
  image: {encoder: onnx/image/model.onnx}
  text: {encoder: onnx/text/model.onnx}
  audio: {encoder: onnx/audio}
fusion: {name: attention, dim: 8}
tasks: {color: {type: classification}}
train: {epochs: 2, seed: 1}
transfer: {guard: "off"}
"""
    )
    return mm.fit(folder / "job.yaml", out=folder / "run")


@pytest.fixture(scope="module")
def bundle(run: mm.Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported") / "bundle"
    run.export(folder)
    return folder


RECORDS = [
    {"image": "1.png", "audio": "2.wav"},
    {"text": "red thing"},
    {"audio": "9.wav"},
    {"image": "0.png", "text": "blue", "audio": "4.wav"},
]


def records(run: mm.Run) -> list[dict[str, str]]:
    base = run.folder.parent
    return [{name: value if name == "text" else str(base / value) for name, value in r.items()} for r in RECORDS]


def test_a_run_holds_the_graphs_and_needs_no_file(run: mm.Run, tmp_path: Path) -> None:
    expected = [found["color"].probabilities for found in run.predict(records(run))]
    hidden = run.folder.parent / "audio" / "vectors.onnx"
    hidden.rename(tmp_path / "elsewhere")
    try:
        again = [found["color"].probabilities for found in mm.Run(run.folder).predict(records(run))]
    finally:
        (tmp_path / "elsewhere").rename(hidden)
    assert again == expected
    assert [run.job.inputs[name].frozen for name in run.job.inputs] == [True] * 3


def probabilities(model: mm.Run | Predictor, given: list[dict[str, str]]) -> np.ndarray:
    return np.array([[found["color"].probabilities[color] for color in COLORS] for found in model.predict(given)])


def test_a_bundle_predicts_as_the_run(run: mm.Run, bundle: Path) -> None:
    served = Predictor.load(bundle, device="cpu")
    assert_close(probabilities(served, records(run)), probabilities(run, records(run)), "onnx")


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_smaller_precisions_pass_their_gate(run: mm.Run, precision: str, tmp_path: Path) -> None:
    run.export(tmp_path / "bundle", precision=precision)
    served = Predictor.load(tmp_path / "bundle", device="cpu", precision=precision)
    assert_close(probabilities(served, records(run)), probabilities(run, records(run)), "float16 values")


def test_there_is_no_twin_with_random_weights(run: mm.Run) -> None:
    encoders = {"image": run.model.encoder("image"), "text": mm.create_encoder("compact/text")}
    assert random_twins(encoders, seed=0).keys() == {"text"}


@pytest.mark.slow
def test_the_guard_compares_it_with_raw_features(run: mm.Run, tmp_path: Path) -> None:
    made = mm.fit(run.folder.parent / "job.yaml", out=tmp_path / "run", overrides=["transfer.guard=auto"])
    arms = json.loads((made.folder / "transfer.json").read_text())["tasks"]["color"]["arms"]
    assert {"raw", "probe"} <= arms.keys()
    assert "random" not in arms


def test_the_graph_is_one_file_with_the_inputs_of_the_preprocessors(bundle: Path) -> None:
    graph = onnx.load(bundle / "model.onnx").graph
    axes = {value.name: [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim] for value in graph.input}
    assert axes == {
        "image.pixels": ["batch", 3, 16, 16],
        "image.present": ["batch"],
        "text.input_ids": ["batch", "text_tokens"],
        "text.attention_mask": ["batch", "text_tokens"],
        "text.present": ["batch"],
        "audio.waveform": ["batch", "audio_samples"],
        "audio.waveform_mask": ["batch", "audio_samples"],
        "audio.present": ["batch"],
    }
    assert len({node.name for node in graph.node}) == len(graph.node)
    assert verify_bundle(bundle) == []


@pytest.mark.slow
@pytest.mark.parametrize("opset", [18, 22])
def test_every_opset_can_be_exported(run: mm.Run, opset: int) -> None:
    model = onnx.load_from_string(to_onnx(run.model, opset=opset))
    assert [entry.version for entry in model.opset_import if entry.domain == ""] == [opset]


def test_a_file_of_a_newer_opset_says_which_to_export(run: mm.Run, tmp_path: Path, monkeypatch) -> None:
    encoder = mm.create_encoder(f"onnx/{image_file(tmp_path / 'm.onnx', opset=22)}")
    monkeypatch.setitem(run.model.encoders._modules, next(iter(run.model.encoders._modules)), encoder)
    with pytest.raises(OnnxError, match="the encoder of image is of opset 22, not 20; export with that opset"):
        to_onnx(run.model, opset=20)


def test_a_summary_says_that_it_is_frozen(run: mm.Run, caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    caplog.set_level(logging.INFO, "multimodal")
    mm.fit(run.folder.parent / "job.yaml", out=tmp_path / "run")
    assert "licence MIT), frozen, as it has no gradients" in caplog.text
    assert "audio: encoded by onnxruntime" in caplog.text
