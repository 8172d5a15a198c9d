import builtins
import hashlib
import json

import numpy as np
import pytest
import timm
import torch
from huggingface_hub import constants
from PIL import Image
from safetensors.torch import save_file
from support.assertions import assert_close
from support.image_checkpoints import TIMM_SIZES
from timm.data import create_transform, resolve_data_config

from encoders import create_encoder, find_encoder
from encoders.image.timm import _preprocessing as preprocessing
from encoders.image.timm_weights import published_weights

PHOTO = np.random.default_rng(0).integers(0, 256, (100, 120, 3), dtype=np.uint8)


def make_model(name: str, *, seed: int = 0, **options):
    torch.manual_seed(seed)
    return timm.create_model(name, pretrained=False, **options).eval()


def encode(encoder, photo=PHOTO):
    pixels = encoder.preprocessor.stack([encoder.preprocessor(photo)])["pixels"]
    with torch.no_grad():
        return encoder.eval()({"pixels": torch.from_numpy(pixels)})


@pytest.mark.parametrize("name", [name for name in TIMM_SIZES if name.startswith("test_")])
def test_tokens_are_timm_s_features_of_what_timm_s_transform_gives(name, tmp_path):
    model = make_model(name)
    save_file(model.state_dict(), tmp_path / "weights.safetensors")
    encoder = create_encoder(f"timm/{name}", weights=tmp_path / "weights.safetensors")
    tokens, mask = encode(encoder)
    transform = create_transform(**resolve_data_config(pretrained_cfg=model.pretrained_cfg))
    with torch.no_grad():
        expected = model.forward_features(transform(Image.fromarray(PHOTO))[None])
    if expected.ndim == 4:
        expected = expected.flatten(2).transpose(1, 2) if name != "test_mambaout" else expected.flatten(1, 2)
    assert_close(tokens, expected, "float32")
    assert mask.all()


def test_pixels_are_those_of_timm_s_transform():
    photo = Image.fromarray(PHOTO[:15, :20]).resize((333, 250), Image.Resampling.BICUBIC)
    names = ("resnet50", "vit_base_patch16_224.augreg_in21k", "vit_base_patch16_clip_224.openai", "convnext_tiny")
    for name in (
        *names,
        "vit_base_patch16_siglip_224",
        "swin_tiny_patch4_window7_224",
        "tf_efficientnet_b0.ns_jft_in1k",
    ):
        published = published_weights(f"timm/{name}", None)
        preprocessor, normalize = preprocessing(f"timm/{name}", published, None)
        expected = create_transform(**resolve_data_config(pretrained_cfg=published))(photo)
        actual = normalize(torch.from_numpy(preprocessor(photo)["pixels"]))
        assert actual.shape == expected.shape
        assert (actual - expected).abs().max() <= 1.01 / 255 / normalize.std.min()


def test_image_size_and_version_are_kept():
    encoder = create_encoder("timm/test_vit3", weights=None, image_size=96)
    assert encoder.architecture() == {"image_size": 96, "version": "r160_in1k"}
    rebuilt = create_encoder(encoder.name, weights=None, **json.loads(json.dumps(encoder.architecture())))
    rebuilt.load_state_dict(encoder.state_dict())
    assert_close(encode(rebuilt)[0], encode(encoder)[0], "float32")
    with_tag = create_encoder("timm/test_vit3.r160_in1k", weights=None, **encoder.architecture())
    assert with_tag.architecture() == encoder.architecture()


def test_attention_biases_follow_the_weights_in_eval_mode():
    encoder = create_encoder("timm/levit_128s", weights=None).eval()
    before, _ = encode(encoder)
    with torch.no_grad():
        for name, parameter in encoder.named_parameters():
            if name.endswith("attention_biases"):
                parameter.add_(torch.randn_like(parameter))
    assert not torch.equal(encode(encoder)[0], before)


# --- weights -----------------------------------------------------------------------------------------------------


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """The hub's cache, on a machine without a connection."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "hub"


def publish(cache, name: str, state):
    commit = "0123456789abcdef0123456789abcdef01234567"
    repository = cache / f"models--timm--{name}"
    (repository / "snapshots" / commit).mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    save_file(state, repository / "snapshots" / commit / "model.safetensors")
    return repository / "snapshots" / commit / "model.safetensors"


def test_pretrained_weights_come_from_the_hub_s_cache(cache):
    model = make_model("test_resnet")
    file = publish(cache, "test_resnet.r160_in1k", model.state_dict())
    encoder = create_encoder("timm/test_resnet")
    assert torch.equal(encoder.model.conv1[0].weight, model.conv1[0].weight)
    assert encoder.provenance.weights == "pretrained"
    assert encoder.provenance.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    assert encoder.provenance.licence == "apache-2.0"
    assert not any("fc" in name for name, _ in encoder.named_parameters())
    assert not encoder.model.pretrained_cfg  # it held the tensors


def test_timm_resizes_the_positions_of_published_weights(cache):
    model = make_model("test_vit3")
    publish(cache, "test_vit3.r160_in1k", model.state_dict())
    encoder = create_encoder("timm/test_vit3", image_size=96)
    assert encoder.model.pos_embed.shape[1] < model.pos_embed.shape[1]
    assert torch.equal(encoder.model.blocks[0].attn.proj.weight, model.blocks[0].attn.proj.weight)


def test_a_file_may_have_other_classes_or_none(tmp_path):
    for count in (7, 0):
        model = make_model("test_vit3", num_classes=count)
        torch.save(model.state_dict(), tmp_path / "weights.pt")
        encoder = create_encoder("timm/test_vit3", weights=tmp_path / "weights.pt")
        assert torch.equal(encoder.model.pos_embed, model.pos_embed)
        assert encoder.provenance.licence == "unknown"


def test_weights_that_an_encoder_saved_are_read(tmp_path):
    encoder = create_encoder("timm/test_convnext", weights=None, image_size=64)
    save_file(encoder.state_dict(), tmp_path / "mine.safetensors")
    again = create_encoder("timm/test_convnext", weights=tmp_path / "mine.safetensors", image_size=64)
    assert_close(encode(again)[0], encode(encoder)[0], "float32")
    with pytest.raises(ValueError, match="does not fit this encoder; missing: "):
        create_encoder("timm/test_resnet", weights=tmp_path / "mine.safetensors", image_size=64)


def test_weights_of_another_model_are_refused(tmp_path):
    torch.save(make_model("test_resnet").state_dict(), tmp_path / "weights.pt")
    with pytest.raises(ValueError, match=r"timm/test_byobnet does not take .*weights\.pt \(Error"):
        create_encoder("timm/test_byobnet", weights=tmp_path / "weights.pt")


# --- what cannot be built ----------------------------------------------------------------------------------------


def test_a_missing_timm_is_the_line_that_installs_it(monkeypatch):
    importing = builtins.__import__

    def failing(name, *args, **kwargs):
        if name.partition(".")[0] == "timm":
            raise ModuleNotFoundError("No module named 'timm'", name="timm")
        return importing(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", failing)
    with pytest.raises(
        ModuleNotFoundError, match=r"^timm is not installed; run: pip install 'multimodal-transfer\[timm\]'$"
    ):
        create_encoder("timm/resnet18", weights=None)


def test_an_unknown_model_or_version_is_refused():
    with pytest.raises(LookupError, match="timm has no model 'resnet19'; did you mean resnet1"):
        create_encoder("timm/resnet19", weights=None)
    with pytest.raises(LookupError, match=r"timm has no model '####'; timm\.list_models"):
        create_encoder("timm/####", weights=None)
    with pytest.raises(LookupError, match=r"timm/test_vit3 has no version 'best'; there are r160_in1k"):
        create_encoder("timm/test_vit3", weights=None, version="best")
    with pytest.raises(LookupError, match=r"is of version 'r160_in1k', not 'best'; give one of the two"):
        create_encoder("timm/test_vit3.r160_in1k", weights=None, version="best")


def test_a_model_without_published_weights_says_so():
    with pytest.raises(ValueError, match="timm has no pretrained weights for timm/test_mambaout; give weights: FILE"):
        create_encoder("timm/test_mambaout", weights="pretrained")


def test_a_model_of_several_feature_maps_is_refused():
    with pytest.raises(ValueError, match=r"CrossVit does not turn images of .*gives list instead of one feature map"):
        create_encoder("timm/crossvit_tiny_240", weights=None)


def test_a_model_of_bordered_or_oblong_images_is_refused():
    for change in ({"crop_mode": "border"}, {"input_size": (3, 64, 32)}):
        with pytest.raises(ValueError, match="cut by 'center' or 'squash': give another model"):
            preprocessing("timm/x", {**published_weights("timm/test_resnet", None), **change}, None)


def test_an_image_size_that_the_model_does_not_take_is_refused():
    with pytest.raises(ValueError, match="image_size is 0; give a whole number"):
        create_encoder("timm/test_resnet", weights=None, image_size=0)
    with pytest.raises(ValueError, match=r"MaxxVit does not turn images of \[100, 100\] pixels"):
        create_encoder("timm/test_maxvit", weights=None, image_size=100)


def test_the_catalogue_has_timm_as_a_family():
    info = find_encoder("timm/resnet18")
    assert (info.modality, info.embed_dim, info.has_weights) == ("image", None, True)


def test_depth_of_a_model_that_timm_gives_no_order_is_found():
    encoder = create_encoder("timm/poolformer_s12", weights=None, image_size=64)
    assert not hasattr(encoder.model, "group_matcher")
    names = {id(parameter): name for name, parameter in encoder.named_parameters()}
    groups = [names[id(group[0])] for group in encoder.depth_groups()]
    blocks = [f"model.stages.{stage}.blocks.{block}." for stage in range(4) for block in range((2, 2, 6, 2)[stage])]
    assert [name for name in groups if ".blocks." in name] == [
        next(name for name in groups if name.startswith(block)) for block in blocks
    ]
    assert groups[0].startswith("model.stem.")
