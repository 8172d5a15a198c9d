import importlib.metadata
import platform
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from support.assertions import assert_close
from tokenizers import Tokenizer
from torch import Tensor, nn

from encoders import create_encoder
from encoders.base import Encoder
from encoders.compact import build_tokenizer as recipe
from encoders.compact.audio import CompactAudio
from encoders.compact.image import CompactImage, StandardizedConv2d
from encoders.compact.shared import FOLDER
from encoders.compact.text import CompactText

KINDS = {"image": CompactImage, "text": CompactText, "audio": CompactAudio}
LIMITS = {"image": 1_000_000, "text": 2_000_000, "audio": 2_000_000}
BUILT_WITH = {"python": "3.11.7", "tokenizers": "0.23.3"}


@pytest.fixture(params=KINDS)
def encoder(request: pytest.FixtureRequest) -> Encoder:
    torch.manual_seed(0)
    return KINDS[request.param]().eval()


def encode(encoder: Encoder, raws: list[Any]) -> tuple[Tensor, Tensor]:
    batch = encoder.preprocessor.stack([encoder.preprocessor(raw) for raw in raws])
    with torch.no_grad():
        return encoder({name: torch.from_numpy(array) for name, array in batch.items()})


def samples(modality: str) -> list[Any]:
    rng = np.random.default_rng(0)
    if modality == "image":
        return list(rng.integers(0, 256, (2, 100, 100, 3), np.uint8))
    if modality == "text":
        return ["a red apple", "milk"]
    return [(0.1 * rng.standard_normal(length).astype(np.float32), 16000) for length in (8000, 6000)]


# --- all three --------------------------------------------------------------------------------------------------


def test_it_is_small(encoder: Encoder) -> None:
    assert sum(parameter.numel() for parameter in encoder.parameters()) <= LIMITS[encoder.modality]


def test_nothing_in_it_depends_on_batch_statistics(encoder: Encoder) -> None:
    assert not any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in encoder.modules())


def test_weights_from_a_file_are_loaded_and_named(encoder: Encoder, tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_file(encoder.state_dict(), path)
    loaded = KINDS[encoder.modality](weights=path).eval()
    raws = samples(encoder.modality)
    assert_close(encode(loaded, raws)[0], encode(encoder, raws)[0])
    assert loaded.provenance.weights == str(path)
    assert loaded.provenance.sha256 is not None
    assert encoder.provenance.weights == "random"


@pytest.mark.parametrize(
    ("modality", "changed"),
    [("image", {"image_size": 64, "width": 96}), ("text", {"width": 128}), ("audio", {"max_seconds": 5.0})],
)
def test_the_architecture_holds_what_was_given_and_every_default(modality: str, changed: dict[str, Any]) -> None:
    encoder = create_encoder(f"compact/{modality}", weights=None, **changed)
    default = KINDS[modality]().architecture()
    assert encoder.architecture() == {**default, **changed}


# --- the weights of the package ---------------------------------------------------------------------------------


@pytest.mark.parametrize("modality", KINDS)
def test_the_package_s_weights_are_the_default_and_have_a_licence(modality: str) -> None:
    encoder = create_encoder(f"compact/{modality}")
    assert encoder.provenance.weights == "pretrained"
    assert encoder.provenance.licence == "Apache-2.0"
    card = (FOLDER / f"{modality}.md").read_text(encoding="utf-8")
    assert all(word in card for word in ("Learned from", "Recipe", "Figure", "Licence", "Limits"))
    random = create_encoder(f"compact/{modality}", weights=None)
    assert any(not torch.equal(random.state_dict()[name], value) for name, value in encoder.state_dict().items())


def test_the_package_s_weights_are_small() -> None:
    assert sum(path.stat().st_size for path in FOLDER.glob("*.safetensors")) <= 8e6


@pytest.mark.parametrize("changed", [{"image_size": 64}, {"image_size": 128}])
def test_the_package_s_weights_take_any_image_size(changed: dict[str, int]) -> None:
    assert create_encoder("compact/image", **changed).provenance.weights == "pretrained"


def test_the_package_s_weights_have_one_width() -> None:
    with pytest.raises(ValueError, match="compact/image has weights for its own width alone; leave width out, or set"):
        create_encoder("compact/image", width=96)


# --- image ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "count"), [(96, 36), (64, 16), (100, 49)])
def test_an_image_gives_a_token_for_each_begun_cell_of_16_pixels(size: int, count: int) -> None:
    tokens, mask = encode(CompactImage(image_size=size), samples("image"))
    assert tokens.shape == (2, count, 160)
    assert mask.all()


def test_standardized_kernels_have_mean_0_and_length_1() -> None:
    torch.manual_seed(0)
    conv = StandardizedConv2d(4, 6, 3, padding=1)
    with torch.no_grad():
        conv.weight.mul_(3.0).add_(5.0)  # neither matters
    kernels = conv.weight.detach().double().numpy()
    kernels = kernels - kernels.mean(axis=(1, 2, 3), keepdims=True)
    kernels = kernels / np.sqrt((kernels**2).sum(axis=(1, 2, 3), keepdims=True))
    image = torch.randn(2, 4, 5, 5)
    expected = nn.functional.conv2d(image.double(), torch.from_numpy(kernels), padding=1)
    assert_close(conv(image), expected, "onnx")  # 1e-4 keeps a kernel of equal values from a division by zero


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"width": 50}, "width is 50; give a multiple of 48"),
        ({"width": 0}, "width is 0; give a multiple of 48"),
        ({"image_size": 16}, "image_size is 16; give at least 32 pixels"),
    ],
)
def test_an_image_encoder_that_cannot_be_is_refused(arguments: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CompactImage(**arguments)


def test_a_few_steps_tell_two_colours_apart() -> None:
    torch.manual_seed(0)
    encoder, head = CompactImage(image_size=32), nn.Linear(160, 2)
    pixels = torch.randint(0, 128, (16, 3, 32, 32), dtype=torch.uint8)
    labels = torch.arange(16) % 2
    pixels[labels == 1, 0] += 90
    optimizer = torch.optim.AdamW([*encoder.parameters(), *head.parameters()], lr=1e-3)
    for _ in range(10):
        logits = head(encoder({"pixels": pixels})[0].mean(dim=1))
        optimizer.zero_grad()
        nn.functional.cross_entropy(logits, labels).backward()
        optimizer.step()
    assert (logits.argmax(dim=1) == labels).all()


# --- text -------------------------------------------------------------------------------------------------------


def test_what_is_in_the_padding_of_a_text_does_not_matter() -> None:
    torch.manual_seed(0)
    encoder = CompactText().eval()
    mask = torch.tensor([[1, 1, 1, 0, 0]])
    with torch.no_grad():
        first = encoder({"input_ids": torch.tensor([[5, 6, 7, 0, 0]]), "attention_mask": mask})[0]
        second = encoder({"input_ids": torch.tensor([[5, 6, 7, 8, 9]]), "attention_mask": mask})[0]
    assert_close(first[:, :3], second[:, :3])


def test_words_are_read_in_their_order() -> None:
    torch.manual_seed(0)
    tokens, mask = encode(CompactText().eval(), ["red apple, green pear", "green apple, red pear"])
    means = [tokens[row][mask[row]].mean(dim=0) for row in (0, 1)]
    assert (means[0] - means[1]).abs().max() > 0.01


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.from_file(str(recipe.TOKENIZER_FILE))


def test_the_tokenizer_is_a_small_file_of_the_declared_size(tokenizer: Tokenizer) -> None:
    assert recipe.TOKENIZER_FILE.stat().st_size <= 1_000_000
    assert tokenizer.get_vocab_size() == recipe.VOCABULARY_SIZE
    assert tokenizer.token_to_id(recipe.PADDING) == 0
    assert CompactText().preprocessor.pad_id == 0


@pytest.mark.parametrize("text", ["a red apple", "grüße, 12 kg", "茶 😀", "\x00\ufffd", "x" * 300])
def test_every_text_has_tokens_and_comes_back(tokenizer: Tokenizer, text: str) -> None:
    assert tokenizer.decode(tokenizer.encode(text).ids) == f" {text}"


def test_case_and_spacing_do_not_matter(tokenizer: Tokenizer) -> None:
    expected = tokenizer.encode("a red apple").ids
    assert tokenizer.encode("  A RED\n\u00a0Apple ").ids == expected
    assert tokenizer.encode("apple").ids == expected[2:]


def test_the_recipe_gives_the_same_tokenizer_each_time() -> None:
    texts = [f"{word} of the {word}ing {count}" for count in range(30) for word in ("peel", "pick", "pack")]
    first, second = (recipe.build_tokenizer(iter(texts), 300) for _ in range(2))
    assert first.to_str() == second.to_str()
    assert first.token_to_id("Ġpeeling") is not None


def test_the_corpus_is_the_documentation_without_tests(tmp_path: Path) -> None:
    (tmp_path / "fruit.py").write_text('"""About fruit."""\nclass Pear:\n    """A pear."""\n', encoding="utf-8")
    (tmp_path / "broken.py").write_text('"""Never read."""\ndef', encoding="utf-8")
    (tmp_path / "test").mkdir()
    (tmp_path / "test" / "test_fruit.py").write_text('"""Not read."""\n', encoding="utf-8")
    texts = list(recipe.corpus(tmp_path))
    assert texts[-2:] == ["About fruit.", "A pear."]
    assert "RED APPLE" in texts
    assert not any("read." in text for text in texts[-4:])


@pytest.mark.slow
@pytest.mark.skipif(
    platform.python_version() != BUILT_WITH["python"]
    or importlib.metadata.version("tokenizers") != BUILT_WITH["tokenizers"],
    reason=f"tokenizer.json was built with {BUILT_WITH}; other versions give another file",
)
def test_the_file_is_what_the_recipe_builds(
    tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recipe, "TOKENIZER_FILE", tmp_path / "tokenizer.json")
    recipe.main()
    assert Tokenizer.from_file(str(tmp_path / "tokenizer.json")).to_str() == tokenizer.to_str()


# --- audio ------------------------------------------------------------------------------------------------------


def test_a_clip_gives_a_token_for_each_begun_40_ms() -> None:
    tokens, mask = encode(CompactAudio(), samples("audio"))  # 0.5 and 0.375 s
    assert tokens.shape == (2, 13, 192)
    assert mask.sum(dim=1).tolist() == [13, 10]


def test_loudness_does_not_matter() -> None:
    torch.manual_seed(0)
    encoder = CompactAudio().eval()
    (waveform, rate), _ = samples("audio")
    loud, quiet = encode(encoder, [(waveform, rate)])[0], encode(encoder, [(0.1 * waveform, rate)])[0]
    assert (loud - quiet).abs().max() < 0.05 * loud.std()


def test_what_is_in_the_padding_of_a_clip_does_not_matter() -> None:
    torch.manual_seed(0)
    encoder = CompactAudio().eval()
    waveform = torch.randn(1, 6000)
    mask = torch.arange(6000)[None] < 4000
    with torch.no_grad():
        first, real = encoder({"waveform": waveform, "waveform_mask": mask})
        second, _ = encoder({"waveform": torch.where(mask, waveform, 3.0), "waveform_mask": mask})
    assert_close(first[real], second[real])


def test_silence_is_finite() -> None:
    tokens, mask = encode(CompactAudio().eval(), [(np.zeros(4000, np.float32), 16000)])
    assert tokens[mask].isfinite().all()
