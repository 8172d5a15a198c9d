"""Without a network and without the weights: one error, whatever library they would come from."""

import http.client
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants

from encoders import create_encoder

TORCH, HUB = "hub/checkpoints", "hub"
ABSENT = {
    "torchvision/resnet18": ("resnet18-f37072fd.pth", TORCH, "https://download.pytorch.org/models/"),
    "torchaudio/wav2vec2_base": ("wav2vec2_fairseq_base_ls960.pth", TORCH, "https://download.pytorch.org/torchaudio/"),
    "timm/test_resnet": ("model.safetensors", f"{HUB}/models--timm--test_resnet.r160_in1k", "on the hub"),
    "transformers/org/other": ("model.safetensors and config.json", f"{HUB}/models--org--other", "on the hub"),
}
"""Encoder -> the file that is looked for, the cache that is searched, the place from where it would be fetched."""


@pytest.fixture(params=[OSError("no route"), http.client.IncompleteRead(b"")])
def caches(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Empty caches, on a machine without a connection."""

    def fail(*_: object, **__: object) -> None:
        raise request.param

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", fail)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / HUB))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return tmp_path


@pytest.mark.parametrize("name", ABSENT)
def test_the_error_names_file_caches_and_the_three_ways(name: str, caches: Path) -> None:
    file, cache, place = ABSENT[name]
    with pytest.raises(FileNotFoundError) as raised:
        create_encoder(name, weights="pretrained")
    message = str(raised.value)
    assert message.startswith(f"the pretrained weights of {name} are not on this machine; looked for {file}")
    assert str(caches / cache) in message
    assert place in message
    ways = (f"`multimodal encoders --download {name}` on a machine with a network", "weights=PATH", "weights=None")
    assert "There are three ways to get them: " in message
    assert all(way in message for way in ways)


def test_a_hub_id_given_as_weights_is_what_is_to_be_fetched(caches: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"`multimodal encoders --download transformers/org/other`"):
        create_encoder("timm/test_resnet", weights="org/other")


@pytest.mark.parametrize("name", ["torchvision/resnet18", "timm/test_resnet"])
def test_random_weights_need_none_of_it(name: str, caches: Path) -> None:
    assert create_encoder(name, weights=None, image_size=64).provenance.weights == "random"
