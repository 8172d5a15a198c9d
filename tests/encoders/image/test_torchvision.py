import hashlib
import json

import numpy as np
import pytest
import torch
from PIL import Image
from support.assertions import assert_close
from support.image_checkpoints import TORCHVISION_SIZES, settle
from support.shallow import plant_shallow
from torch.hub import HASH_REGEX
from torchvision.models import get_model, get_model_weights, list_models, regnet

from encoders import create_encoder, find_encoder, list_encoders
from encoders.image.torchvision import TRUNKS
from encoders.image.torchvision_weights import INCEPTION, preprocessing, published_weights

SLOW = (
    "vgg11",
    "vgg11_bn",
    "vit_b_32",
    "inception_v3",
    "wide_resnet50_2",
    "efficientnet_v2_s",
    "swin_v2_t",
    "maxvit_t",
)
SIZES = [pytest.param(*case, marks=[pytest.mark.slow] * (case[0] in SLOW)) for case in TORCHVISION_SIZES.items()]
NAMES = [info.name.removeprefix("torchvision/") for info in list_encoders("image") if info.source == "torchvision"]


def small_photo(height: int = 70, dim: int = 100) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, dim, 3), dtype=np.uint8)


def default_weights(name: str):
    return get_model_weights(name).DEFAULT


def make_model(name="resnet18", size=64, seed=0):
    """torchvision's own, as its published weights are used, with statistics that are not those of a fresh one."""
    torch.manual_seed(seed)
    options = {}
    if name in INCEPTION:
        options = {"transform_input": True, "aux_logits": False, "init_weights": True}
    elif name.startswith("vit"):
        options = {"image_size": size}
    model = get_model(name, weights=None, **options)
    settle(model, size)
    return model


def seen_by_the_head(model, images):
    """The last feature map ``[b d h w]`` or the sequence ``[b l d]``; where pooling is no module, the pooled map."""
    seen = []

    def note(_, inputs, output=None):
        seen.append(inputs[0] if output is None else output)

    if hasattr(model, "conv_proj"):
        handle = model.encoder.register_forward_hook(note)
    else:
        head = next(name for name in ("avgpool", "classifier", "fc") if hasattr(model, name))
        handle = getattr(model, head).register_forward_pre_hook(note)
    with torch.no_grad():
        model(images)
    handle.remove()
    return seen[0]


@pytest.fixture
def shallow(monkeypatch):
    """Makes vision transformers of two layers."""
    plant_shallow(monkeypatch)


@pytest.mark.parametrize(("name", "size"), SIZES)
def test_tokens_are_what_the_head_of_torchvision_s_model_sees(name, size, tmp_path):
    model = make_model(name, size)
    torch.save(model.state_dict(), tmp_path / "weights.pth")
    encoder = create_encoder(f"torchvision/{name}", weights=tmp_path / "weights.pth", image_size=size).eval()
    pixels = torch.from_numpy(encoder.preprocessor.stack([encoder.preprocessor(small_photo())])["pixels"])
    transforms = default_weights(name).transforms()
    mean, std = (torch.tensor(values)[:, None, None] for values in (transforms.mean, transforms.std))
    with torch.no_grad():
        tokens, mask = encoder.double()({"pixels": pixels})
    expected = seen_by_the_head(model.double(), (pixels.double() / 255 - mean.double()) / std.double())
    assert tokens.shape[2] == encoder.embed_dim
    assert tokens.std() > 1e-3
    assert mask.all()
    if expected.ndim == 2:
        tokens = tokens.mean(dim=1)
    elif expected.ndim == 4:
        tokens = tokens.transpose(1, 2).reshape(expected.shape)
    # Inception's two ways of normalising differ in how their constants are rounded
    assert_close(tokens, expected, "float32" if name not in INCEPTION else "onnx")


@pytest.mark.usefixtures("shallow")
def test_tokens_are_those_of_torchvision_s_vision_transformer(tmp_path):
    test_tokens_are_what_the_head_of_torchvision_s_model_sees("vit_b_32", 64, tmp_path)


def test_pixels_are_those_of_the_published_transforms_of_every_version():
    # smooth: beside sharp edges torchvision's own answers, on PIL images and on tensors, differ by more
    photo = Image.fromarray(small_photo(20, 27)).resize((431, 320), Image.Resampling.BICUBIC)
    checked = {}
    for name in NAMES:
        for published in get_model_weights(name):
            transforms = published.transforms()
            key = repr(transforms)
            if key in checked:
                continue
            preprocessor, normalize = preprocessing(f"torchvision/{name}", published, None)
            expected = transforms(photo)
            if name in INCEPTION:
                mean, std = (torch.tensor(v)[:, None, None] for v in (transforms.mean, transforms.std))
                expected = (expected * std + mean - 0.5) / 0.5
            actual = normalize(torch.from_numpy(preprocessor(photo)["pixels"]))
            grey_level = 1 / 255 / normalize.std.min()
            checked[key] = float((actual - expected).abs().max() / grey_level)
            assert actual.shape == expected.shape
    assert len(checked) > 20
    assert max(checked.values()) <= 1.01


def test_the_image_size_can_be_chosen():
    encoder = create_encoder("torchvision/resnet18", weights=None, image_size=64)
    assert encoder.preprocessor.to_config() == {
        "kind": "image",
        "size": 73,  # 64 * 256 / 224, as for 224 pixels
        "crop": 64,
        "resize": "crop",
        "interpolation": "bilinear",
        "crop_rounding": "even",
    }
    assert json.loads(json.dumps(encoder.architecture())) == {"image_size": 64, "version": "IMAGENET1K_V1"}
    rebuilt = create_encoder("torchvision/resnet18", weights=None, **encoder.architecture())
    assert rebuilt.preprocessor.to_config() == encoder.preprocessor.to_config()


@pytest.mark.parametrize(
    ("name", "size", "message"),
    [
        ("resnet18", 0, "image_size is 0; give a whole number, at least 1"),
        ("alexnet", 32, "image_size is 32; torchvision/alexnet needs at least 63 pixels a side"),
        ("swin_t", 16, "image_size is 16; torchvision/swin_t needs at least 32"),
        ("vit_b_16", 100, "image_size is 100; torchvision/vit_b_16 cuts images to pieces, give a multiple of 16"),
        ("maxvit_t", 256, "image_size is 256; torchvision/maxvit_t cuts images to pieces, give a multiple of 224"),
    ],
)
def test_an_image_size_that_does_not_suit_is_refused(name, size, message):
    with pytest.raises(ValueError, match=message):
        create_encoder(f"torchvision/{name}", weights=None, image_size=size)


def test_another_version_brings_its_own_preprocessing():
    first, second = (published_weights("torchvision/resnet50", version) for version in ("IMAGENET1K_V1", None))
    assert (first.name, second.name) == ("IMAGENET1K_V1", "IMAGENET1K_V2")
    sizes = [preprocessing("torchvision/resnet50", published, None)[0].size for published in (first, second)]
    assert sizes == [256, 232]
    with pytest.raises(ValueError, match="no weights of version 'V3'; there are IMAGENET1K_V1, IMAGENET1K_V2"):
        create_encoder("torchvision/resnet50", weights=None, version="V3")


def test_depth_goes_from_the_stem_through_each_block():
    encoder = create_encoder("torchvision/resnet18", weights=None, image_size=32)
    names = {id(parameter): name for name, parameter in encoder.named_parameters()}
    groups = [[names[id(parameter)] for parameter in group] for group in encoder.depth_groups()]
    stem, *blocks = groups
    assert stem == ["conv1.weight", "bn1.weight", "bn1.bias"]
    starts = [f"layer{stage}.{block}." for stage in (1, 2, 3, 4) for block in (0, 1)]
    assert len(blocks) == len(starts)
    assert all(name.startswith(start) for start, group in zip(starts, blocks, strict=True) for name in group)


@pytest.mark.usefixtures("shallow")
def test_the_stem_of_a_vision_transformer_holds_class_token_and_positions():
    encoder = create_encoder("torchvision/vit_b_32", weights=None, image_size=32)
    names = {id(parameter): name for name, parameter in encoder.named_parameters()}
    stem, first, *_, last = [[names[id(parameter)] for parameter in group] for group in encoder.depth_groups()]
    assert set(stem) == {"conv_proj.weight", "conv_proj.bias", "class_token", "encoder.pos_embedding"}
    assert all(name.startswith("encoder.layers.encoder_layer_0.") for name in first)
    assert last[-1] == "encoder.ln.bias"
    tokens, _ = encoder.eval()({"pixels": torch.zeros(1, 3, 32, 32, dtype=torch.uint8)})
    assert tokens.shape == (1, 2, 768)  # the class token and one patch


# --- weights -----------------------------------------------------------------------------------------------------


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


def test_pretrained_weights_come_from_torch_s_cache(cache):
    model = make_model()
    file = cache / default_weights("resnet18").url.rpartition("/")[2]
    torch.save(model.state_dict(), file)
    encoder = create_encoder("torchvision/resnet18")
    assert torch.equal(encoder.conv1.weight, model.conv1.weight)
    assert encoder.provenance.weights == "pretrained"
    assert encoder.provenance.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    assert encoder.provenance.licence == "BSD-3-Clause"
    assert not any(name.startswith("fc.") for name, _ in encoder.named_parameters())


@pytest.mark.usefixtures("shallow")
def test_swag_s_weights_are_not_for_commerce(cache):
    published = get_model_weights("vit_b_16").IMAGENET1K_SWAG_LINEAR_V1
    torch.save(make_model("vit_b_16", 224).state_dict(), cache / published.url.rpartition("/")[2])
    encoder = create_encoder("torchvision/vit_b_16", version=published.name, image_size=32)
    assert encoder.provenance.licence == "CC-BY-NC-4.0"
    assert encoder.preprocessor.interpolation == "bicubic"
    for name in NAMES:
        is_swag = "SWAG" in default_weights(name).name
        assert find_encoder(f"torchvision/{name}").licence == ("CC-BY-NC-4.0" if is_swag else "BSD-3-Clause")


@pytest.mark.usefixtures("shallow")
def test_positions_are_interpolated_to_other_image_sizes(tmp_path):
    model = make_model("vit_b_32", 96)
    state = model.state_dict()
    torch.save(state, tmp_path / "weights.pth")
    positions = create_encoder("torchvision/vit_b_32", weights=tmp_path / "weights.pth", image_size=160).encoder
    grid = positions.pos_embedding[0, 1:].reshape(5, 5, 768)
    old = state["encoder.pos_embedding"][0]
    assert_close(positions.pos_embedding[0, 0], old[0], "float32")
    old = old[1:].reshape(3, 3, 768)
    for new_place, place in ((0, 0), (2, 1), (4, 2)):  # corners and centre lie on old positions
        assert_close(grid[new_place, new_place], old[place, place], "float32")


def test_old_files_of_densenet_are_read(tmp_path):
    model = make_model("densenet121")
    state = {}
    for name, tensor in model.state_dict().items():
        if not name.endswith("num_batches_tracked"):  # younger than the published files
            for part in ("norm", "relu", "conv"):
                if "denselayer" in name:
                    name = name.replace(f".{part}1.", f".{part}.1.").replace(f".{part}2.", f".{part}.2.")
            state[name] = tensor
    assert "features.denseblock1.denselayer1.norm.1.weight" in state
    torch.save(state, tmp_path / "old.pth")
    encoder = create_encoder("torchvision/densenet121", weights=tmp_path / "old.pth", image_size=64)
    loaded, expected = (each.features.denseblock4.denselayer1.conv2.weight for each in (encoder, model))
    assert torch.equal(loaded, expected)


def test_auxiliary_classifiers_in_a_file_are_left_out(tmp_path):
    extra = {"aux1.fc1.weight": torch.zeros(1), "aux2.fc2.bias": torch.zeros(1)}
    torch.save({**make_model("googlenet").state_dict(), **extra}, tmp_path / "weights.pth")
    encoder = create_encoder("torchvision/googlenet", weights=tmp_path / "weights.pth", image_size=64)
    assert not any(name.startswith("aux") for name, _ in encoder.named_parameters())


# --- the catalogue -----------------------------------------------------------------------------------------------


def test_the_catalogue_lists_every_classifier_of_torchvision():
    import torchvision.models

    assert sorted(NAMES) == sorted(list_models(module=torchvision.models))
    assert all(HASH_REGEX.search(default_weights(name).url) for name in NAMES)  # so that downloads are verified


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_the_catalogue_knows_dim_and_parameters_of_every_classifier(name, monkeypatch):
    from_params = regnet.BlockParams.from_init_params

    def on_cpu(*args, **kwargs):
        with torch.device("cpu"):  # computes sizes with tensors
            return from_params(*args, **kwargs)

    monkeypatch.setattr(regnet.BlockParams, "from_init_params", on_cpu)
    options = {"init_weights": False, "aux_logits": False} if name in INCEPTION else {}
    with torch.device("meta"):
        model = get_model(name, weights=None, **options).eval()
        assert type(model).__name__ in TRUNKS
        size = default_weights(name).transforms().crop_size[0]
        if hasattr(model, "conv_proj"):
            dim = model.hidden_dim
        else:
            dim = seen_by_the_head(model, torch.empty(1, 3, size, size)).shape[1]
        encoder = create_encoder(f"torchvision/{name}", weights=None)
    info = find_encoder(f"torchvision/{name}")
    assert info.embed_dim == dim
    assert info.parameters == sum(parameter.numel() for parameter in encoder.parameters())
    assert info.parameters < default_weights(name).meta["num_params"]  # which counts the classifier, too
