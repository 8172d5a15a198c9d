import hashlib
import json

import numpy as np
import pytest
import torch
from helpers import assert_close
from PIL import Image
from torch.hub import HASH_REGEX

from encoders import create_encoder
from encoders.catalogue.image import RESNETS


def small_photo(height: int = 70, width: int = 100) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def published(name: str):
    from torchvision.models import get_model_weights

    return get_model_weights(name).DEFAULT


def layer4(model, pictures):
    x = model.maxpool(model.relu(model.bn1(model.conv1(pictures))))
    return model.layer4(model.layer3(model.layer2(model.layer1(x))))


def make_model(name="resnet18", seed=0):
    """torchvision's own, with running statistics that are not those of a fresh one."""
    from torchvision.models import get_model

    torch.manual_seed(seed)
    model = get_model(name, weights=None)
    for _ in range(3):
        model(torch.randn(4, 3, 64, 64))
    return model.eval()


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "resnext50_32x4d"])
def test_tokens_are_the_last_feature_map_of_torchvision(name, tmp_path):
    model = make_model(name)
    torch.save(model.state_dict(), tmp_path / "weights.pth")
    encoder = create_encoder(f"torchvision/{name}", weights=tmp_path / "weights.pth", image_size=96).eval()
    pixels = torch.from_numpy(encoder.preprocessor.stack([encoder.preprocessor(small_photo())])["pixels"])
    transforms = published(name).transforms()
    mean, std = (torch.tensor(values)[:, None, None] for values in (transforms.mean, transforms.std))
    with torch.no_grad():
        tokens, mask = encoder({"pixels": pixels})
        expected = layer4(model, (pixels / 255 - mean) / std)  # [1 d 3 3]
    assert tokens.shape == (1, 9, encoder.embed_dim)
    assert tokens.std() > 0.1
    assert_close(tokens[0].T.reshape(expected[0].shape), expected[0], "float32")
    assert mask.all()


def test_pixels_are_those_of_the_published_transforms():
    transforms = published("resnet50").transforms()
    encoder = create_encoder("torchvision/resnet50", weights=None)
    photo = small_photo(300, 400)
    expected = transforms(Image.fromarray(photo))  # [3 224 224]
    pixels = torch.from_numpy(encoder.preprocessor(photo)["pixels"])
    actual = (pixels / 255 - encoder.mean) / encoder.std
    grey_level = 1 / 255 / encoder.std.min()
    assert actual.shape == expected.shape == (3, 224, 224)
    assert (actual - expected).abs().max() <= 1.01 * grey_level


def test_the_picture_size_can_be_chosen():
    encoder = create_encoder("torchvision/resnet18", weights=None, image_size=64)
    assert encoder.preprocessor.to_config() == {
        "kind": "image",
        "size": 73,  # 64 * 256 / 224, as for 224 pixels
        "crop": 64,
        "resize": "crop",
        "interpolation": "bilinear",
    }
    assert json.loads(json.dumps(encoder.architecture())) == {"image_size": 64}
    rebuilt = create_encoder("torchvision/resnet18", weights=None, **encoder.architecture())
    assert rebuilt.preprocessor.to_config() == encoder.preprocessor.to_config()
    with pytest.raises(ValueError, match="image_size is 0; give a whole number, at least 1"):
        create_encoder("torchvision/resnet18", weights=None, image_size=0)


def test_depth_goes_from_the_stem_through_each_block():
    encoder = create_encoder("torchvision/resnet18", weights=None, image_size=32)
    names = {id(parameter): name for name, parameter in encoder.named_parameters()}
    groups = [[names[id(parameter)] for parameter in group] for group in encoder.depth_groups()]
    stem, *blocks = groups
    assert stem == ["conv1.weight", "bn1.weight", "bn1.bias"]
    starts = [f"layer{stage}.{block}." for stage in (1, 2, 3, 4) for block in (0, 1)]
    assert len(blocks) == len(starts)
    assert all(name.startswith(start) for start, group in zip(starts, blocks, strict=True) for name in group)
    assert sorted(name for group in groups for name in group) == sorted(names.values())


def test_pretrained_weights_come_from_torch_s_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    model = make_model()
    file = tmp_path / "hub" / "checkpoints" / published("resnet18").url.rpartition("/")[2]
    file.parent.mkdir(parents=True)
    torch.save(model.state_dict(), file)
    encoder = create_encoder("torchvision/resnet18")
    assert torch.equal(encoder.conv1.weight, model.conv1.weight)
    assert encoder.provenance.weights == "pretrained"
    assert encoder.provenance.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    assert encoder.provenance.licence == "BSD-3-Clause"
    assert not any(name.startswith("fc.") for name, _ in encoder.named_parameters())


def test_the_catalogue_lists_torchvision_s_resnets_with_their_widths():
    from torchvision.models import get_model, list_models

    names = [name for name in list_models() if name.startswith(("resnet", "resnext", "wide_resnet"))]
    assert sorted(RESNETS) == sorted(names)
    with torch.device("meta"):
        widths = {name: get_model(name, weights=None).fc.in_features for name in RESNETS}
    assert widths == {name: width for name, (width, _) in RESNETS.items()}
    assert all(HASH_REGEX.search(published(name).url) for name in RESNETS)  # so that downloads are verified
