import json
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from PIL import Image

from encoders.image.processor_config import PROCESSORS, converted, image_preprocessing

PHOTOS = ((410, 530), (601, 397), (384, 384))
MEANS = {"image_mean": [0.4, 0.5, 0.6], "image_std": [0.2, 0.25, 0.3]}


def photo(height: int, width: int) -> Image.Image:
    # far from black and white: beside them the two backends of transformers differ by more
    coarse = np.random.default_rng(height).integers(90, 166, (9, 12, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def check(processor: Any, settings: dict[str, Any], model_type: str = "vit", *, grey_levels: float = 0.01) -> None:
    """Our pixels are theirs."""
    preprocessor, normalize = converted("tiny", settings, model_type)
    for size in PHOTOS:
        expected = torch.as_tensor(np.asarray(processor(photo(*size))["pixel_values"][0]))
        actual = normalize(torch.from_numpy(preprocessor(photo(*size))["pixels"]))
        assert actual.shape == expected.shape
        grey_level = 1 / 255 / normalize.std.min()
        assert (actual - expected).abs().max() <= grey_levels * grey_level


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("ViT", {"size": {"height": 32, "width": 32}}),
        ("ViT", {"size": {"height": 32, "width": 32}, "resample": 3, **MEANS}),
        ("Siglip", {"size": {"height": 48, "width": 48}}),
        (
            "Beit",
            {"size": {"height": 40, "width": 40}, "do_center_crop": True, "crop_size": {"height": 33, "width": 33}},
        ),
        ("DeiT", {"size": {"height": 41, "width": 41}, "crop_size": {"height": 32, "width": 32}}),
        ("CLIP", {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}, **MEANS}),
        ("Bit", {"size": {"shortest_edge": 39}, "crop_size": {"height": 32, "width": 32}, "resample": 2}),
        ("ConvNext", {"size": {"shortest_edge": 32}, "crop_pct": 0.9}),
        ("ConvNext", {"size": {"shortest_edge": 384}}),
        ("ViT", {"size": {"height": 32, "width": 32}, "rescale_factor": 1 / 127.5, "do_normalize": False}),
        (
            "ViT",
            {
                "size": {"height": 32, "width": 32},
                "do_rescale": False,
                "image_mean": [128.0] * 3,
                "image_std": [9.0] * 3,
            },
        ),
    ],
)
def test_pixels_are_those_of_the_processor(kind, settings):
    processor = getattr(transformers, f"{kind}ImageProcessorPil")(**settings)
    check(processor, json.loads(processor.to_json_string()))
    on_tensors = getattr(transformers, f"{kind}ImageProcessor")(**settings)
    check(on_tensors, json.loads(on_tensors.to_json_string()), grey_levels=2.01)  # theirs differ from each other


@pytest.mark.parametrize(
    ("kind", "old"),
    [
        ("ViT", {"size": 32, "resample": 3}),
        ("ViT", {"size": 32}),
        ("DeiT", {"size": 40, "crop_size": 32, "do_center_crop": True}),
        ("Beit", {"size": 40, "crop_size": 33, "do_center_crop": False, "resample": 2}),
        ("CLIP", {"size": 36, "crop_size": 32, "do_center_crop": True, "resample": 3}),
        ("ConvNext", {"size": 32, "resample": 3, "crop_pct": 0.875}),
    ],
)
def test_files_of_old_feature_extractors_are_read(kind, old):
    settings = {"do_normalize": True, "do_resize": True, **MEANS, **old}
    processor = getattr(transformers, f"{kind}ImageProcessorPil")(**settings)
    check(processor, {"feature_extractor_type": f"{kind}FeatureExtractor", **settings})


@pytest.mark.parametrize("model_type", ["vit", "deit", "dinov2", "convnext", "clip_vision_model"])
def test_a_file_that_names_no_processor_is_read_as_the_model_s(model_type):
    settings = {"size": 40, "crop_size": 40, **MEANS}
    check(getattr(transformers, f"{PROCESSORS[model_type]}ImageProcessorPil")(**settings), settings, model_type)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"image_processor_type": "BlipImageProcessor"},
            "the processor 'BlipImageProcessor' of a vit for its images",
        ),
        ({"size": 32, "do_pad": True}, "do_pad=True"),
        ({"size": 32, "do_resize": False}, "do_resize=False"),
        ({"size": 32, "resample": 0}, r"resample=0 .*supported: 2 \(bilinear\), 3 \(bicubic\)"),
        ({"size": {"height": 32, "width": 40}}, "one square size for all images"),
        ({"size": {"shortest_edge": 32}}, "one square size for all images"),
        (
            {"size": {"shortest_edge": 32, "longest_edge": 50}, "do_center_crop": True, "crop_size": 9},
            "'longest_edge': 50",
        ),
        ({"size": 32, "do_center_crop": True, "crop_size": {"height": 9, "width": 8}}, "one square size"),
        ({"do_center_crop": True, "crop_size": 9}, "one square size"),
        ({"size": 32, "image_mean": [0.5]}, r"image_mean=\[0.5\].*three numbers each"),
        ({"size": 32, "do_center_crop": True, "crop_size": 40}, "crop is 40 but size is 32"),
    ],
)
def test_what_our_preprocessor_does_not_do_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        converted("tiny", {**MEANS, **settings}, "vit")


def test_a_folder_of_two_modalities_keeps_it_with_the_text_s(tmp_path):
    inner = transformers.CLIPImageProcessorPil().to_dict()
    (tmp_path / "processor_config.json").write_text(json.dumps({"image_processor": inner, "processor_class": "CLIP"}))
    preprocessor, _ = image_preprocessing("tiny", tmp_path, "clip_vision_model")
    assert (preprocessor.size, preprocessor.crop, preprocessor.interpolation) == (224, 224, "bicubic")


def test_a_folder_that_says_nothing_or_nonsense_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"holds no preprocessor_config\.json.*save_pretrained\(FOLDER\)"):
        image_preprocessing("tiny", tmp_path, "vit")
    for text in ("{", "[1]"):
        (tmp_path / "preprocessor_config.json").write_text(text)
        with pytest.raises(ValueError, match=r"preprocessor_config\.json: is damaged"):
            image_preprocessing("tiny", tmp_path, "vit")
