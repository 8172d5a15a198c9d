"""Text encoders of every kind, from a table of texts to answers without torch."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.checkpoints import write_text_model
from support.text_checkpoints import write_sentence_model, write_two_towers
from support.word_files import make_vectors, write_vectors
from typer.testing import CliRunner

import multimodal as mm
from encoders import create_encoder
from export.samples import synthetic_samples
from multimodal.builders.encoders import build_encoders
from multimodal.cli import app
from multimodal.config import Input

TEXTS = {"a red apple": "fruit", "ripe pear": "fruit", "milk from the cow": "milk", "Milk, milk.": "milk"}
ROWS = [{"text": text, "kind": kind} for text, kind in TEXTS.items()] * 3


def _words(folder: Path) -> dict[str, Any]:
    write_vectors(folder / "vectors.vec", make_vectors(), "fasttext.vec")
    return {"encoder": f"wordvectors/{folder / 'vectors.vec'}", "options": {"vocabulary": 12}}


def _decoder(folder: Path) -> dict[str, Any]:
    write_text_model(folder / "model", "gpt2")
    return {"encoder": f"transformers/{folder / 'model'}"}


def _sentence(folder: Path) -> dict[str, Any]:
    write_sentence_model(folder / "model", {"pooling_mode_cls_token": True}, ("Dense",))
    return {"encoder": f"transformers/{folder / 'model'}"}


def _tower(folder: Path) -> dict[str, Any]:
    write_two_towers(folder / "model", "siglip")
    return {"encoder": f"transformers/{folder / 'model'}", "options": {"tower": "text"}}


KINDS: dict[str, Callable[[Path], dict[str, Any]]] = {
    "words": _words,
    "decoder": _decoder,
    "sentence": _sentence,
    "tower": _tower,
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_run_answers_without_the_files_that_its_encoder_came_from(kind, tmp_path):
    (tmp_path / "files").mkdir()
    values = {"inputs": {"text": KINDS[kind](tmp_path / "files")}, "tasks": {"kind": {}}, "data": {"workers": 0}}
    task = mm.Job.model_validate({**values, "train": {"epochs": 1, "batch_size": 4}})
    mm.fit(task, train=ROWS, valid=ROWS, out=tmp_path / "run")
    shutil.rmtree(tmp_path / "files")
    run = mm.Run(tmp_path / "run")
    run.export(tmp_path / "bundle")
    assert len(mm.Predictor.load(tmp_path / "bundle").predict([{"text": text} for text in TEXTS])) == 4
    encoder = run.model.encoder("text")
    again = create_encoder(encoder.name, weights=tmp_path / "run")
    for ours, theirs in zip(again.parameters(), encoder.parameters(), strict=True):
        np.testing.assert_array_equal(ours.detach(), theirs.detach())


@pytest.mark.slow
def test_a_bundle_holds_the_words_that_were_asked_for(tmp_path):
    values = {"inputs": {"text": _words(tmp_path)}, "tasks": {"kind": {}}, "data": {"workers": 0}}
    task = mm.Job.model_validate({**values, "train": {"epochs": 1, "batch_size": 4}})
    run = mm.fit(task, train=ROWS, valid=ROWS, out=tmp_path / "run")
    (tmp_path / "words.txt").write_text("apple\nmilk\n")
    export = ["export", str(run.folder), "--out", str(tmp_path / "bundle"), "--vocabulary", str(tmp_path / "words.txt")]
    assert CliRunner().invoke(app, export, catch_exceptions=False).exit_code == 0
    assert (tmp_path / "bundle" / "inputs" / "text" / "vocabulary.txt").read_text() == "apple\nmilk\n"
    assert mm.verify_bundle(tmp_path / "bundle") == []
    long, short = mm.Predictor.load(tmp_path / "bundle").predict([{"text": "a red apple"}, {"text": "apple"}])
    assert long["kind"].probability == short["kind"].probability
    with pytest.raises(ValueError, match="has none of these words"):
        run.with_vocabulary(["mango"])


def test_a_file_of_vectors_is_found_from_the_folder_of_the_config(tmp_path):
    write_vectors(tmp_path / "vectors.vec", make_vectors(), "fasttext.vec")
    encoders = build_encoders({"text": Input(encoder="wordvectors/vectors.vec")}, tmp_path)
    assert encoders["text"].embed_dim == 4


def test_synthetic_texts_are_of_the_words_that_have_vectors(tmp_path):
    path = write_vectors(tmp_path / "vectors.vec", make_vectors(), "fasttext.vec")
    preprocessor = create_encoder(f"wordvectors/{path}").preprocessor
    (sample,) = synthetic_samples(preprocessor, np.random.default_rng(0), ["long"])
    assert len(sample["input_ids"]) == 128
    assert 0 not in sample["input_ids"]
