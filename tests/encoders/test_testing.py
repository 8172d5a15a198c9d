"""The contract check finds what it is there to find: encoders that break one promise each."""

import json
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor, nn

from encoders import register_encoder, registry, testing
from encoders.base import Encoder, all_real
from encoders.preprocessing import TensorSpec
from encoders.preprocessing.image import ImagePreprocessor
from encoders.preprocessing.text import TextPreprocessor
from encoders.testing import ContractError, check_encoder, default_samples

TEXTS = ["apple", "pear apple plum fig", "fig pear"]


def tokenizer() -> Tokenizer:
    words = Tokenizer(models.WordLevel({"[PAD]": 0, "apple": 1, "pear": 2, "plum": 3, "fig": 4}, unk_token="[PAD]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    return words


class Words(Encoder):
    """Keeps every promise; those below break one."""

    def __init__(self) -> None:
        super().__init__()
        self.modality = "text"
        self.embed_dim = 8
        self.preprocessor = TextPreprocessor(tokenizer(), max_tokens=16)
        self.embed = nn.Embedding(5, 8)
        self.linear = nn.Linear(8, 8)

    def forward(self, inputs: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        mask = inputs["attention_mask"] > 0
        return self.encode(self.embed(inputs["input_ids"]), mask), mask

    def encode(self, x: Tensor, mask: Tensor) -> Tensor:
        return self.linear(x)

    def depth_groups(self) -> list[list[nn.Parameter]]:
        return [list(self.embed.parameters()), list(self.linear.parameters())]


def test_an_encoder_that_keeps_every_promise_passes() -> None:
    check_encoder(Words(), samples=TEXTS)


def test_the_encoder_is_left_as_it_was() -> None:
    torch.manual_seed(0)
    encoder = Words().train()
    encoder.linear.eval()
    before = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    random_state = torch.get_rng_state()
    check_encoder(encoder, samples=TEXTS, export=False)
    assert encoder.training
    assert not encoder.linear.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in encoder.state_dict().items())
    assert all(parameter.grad is None for parameter in encoder.parameters())
    assert torch.equal(torch.get_rng_state(), random_state)


class NoWidth(Words):
    def __init__(self) -> None:
        super().__init__()
        del self.embed_dim


class OtherModality(Words):
    def __init__(self) -> None:
        super().__init__()
        self.modality = "image"


class NoModality(Words):
    def __init__(self) -> None:
        super().__init__()
        self.modality = ""


class PlainList(Words):
    def __init__(self) -> None:
        super().__init__()
        self.scales = [nn.Parameter(torch.randn(8))]

    def encode(self, x: Tensor, mask: Tensor) -> Tensor:
        return self.linear(x) * self.scales[0]


class PlainDictOfModules(Words):
    def __init__(self) -> None:
        super().__init__()
        self.branches = {"first": nn.Linear(8, 8)}

    def encode(self, x: Tensor, mask: Tensor) -> Tensor:
        return self.branches["first"](self.linear(x))


class Unlisted(Words):
    def depth_groups(self) -> list[list[nn.Parameter]]:
        return [list(self.embed.parameters())]


class ListedTwice(Words):
    def depth_groups(self) -> list[list[nn.Parameter]]:
        return [*super().depth_groups(), [self.linear.bias]]


class ListsAStranger(Words):
    def depth_groups(self) -> list[list[nn.Parameter]]:
        return [*super().depth_groups(), [nn.Parameter(torch.zeros(1))]]


class FailsToList(Words):
    def depth_groups(self) -> list[list[nn.Parameter]]:
        return [list(self.no_such_layer.parameters())]  # type: ignore[operator, list-item]


class Unused(Words):
    def __init__(self) -> None:
        super().__init__()
        self.pooler = nn.Linear(8, 8)

    def depth_groups(self) -> list[list[nn.Parameter]]:
        return [*super().depth_groups(), list(self.pooler.parameters())]


class Frozen(Words):
    def __init__(self) -> None:
        super().__init__()
        self.embed.requires_grad_(False)


class WithoutGradient(Words):
    def encode(self, x: Tensor, mask: Tensor) -> Tensor:
        return self.linear(x).detach()


class InfiniteGradient(Words):
    def encode(self, x: Tensor, mask: Tensor) -> Tensor:
        return self.linear(x) + (self.linear.bias - self.linear.bias).sqrt()


class OneTokenWithoutAxis(Words):
    def encode(self, x: Tensor, mask: Tensor) -> Tensor:
        return self.linear(x)[:, 0]


class OtherWidth(Words):
    def encode(self, x: Tensor, mask: Tensor) -> Tensor:
        return self.linear(x)[:, :, :4]


class IntegerMask(Words):
    def forward(self, inputs: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        tokens, _ = super().forward(inputs)
        return tokens, inputs["attention_mask"]


class NothingReal(Words):
    def forward(self, inputs: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        tokens, mask = super().forward(inputs)
        return tokens, mask & False


class NotFinite(Words):
    def encode(self, x: Tensor, mask: Tensor) -> Tensor:
        return self.linear(x) / 0.0


class Constant(Words):
    def encode(self, x: Tensor, mask: Tensor) -> Tensor:
        return (0.0 * self.linear(x)).mean(dim=1, keepdim=True).expand(-1, x.shape[1], -1)

    def forward(self, inputs: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        tokens, mask = super().forward(inputs)
        return tokens[:, :1], mask[:, :1]


class Random(Words):
    def encode(self, x: Tensor, mask: Tensor) -> Tensor:
        return nn.functional.dropout(self.linear(x), 0.5, training=True)


class WritesIntoInputs(Words):
    def forward(self, inputs: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        outputs = super().forward(inputs)
        inputs["input_ids"].zero_()
        return outputs


class LooksAtItsMates(Words):
    def encode(self, x: Tensor, mask: Tensor) -> Tensor:
        return self.linear(x) - self.linear(x).mean(dim=(0, 1))


class SqueezesTheBatch(Words):
    def encode(self, x: Tensor, mask: Tensor) -> Tensor:
        return self.linear(x.squeeze(0)).reshape(len(x.squeeze(0)), -1, 8)


class AveragesPadding(Words):
    def encode(self, x: Tensor, mask: Tensor) -> Tensor:
        return self.linear(x) + x.mean(dim=1, keepdim=True)


class LosesTokensToPadding(Words):
    def forward(self, inputs: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        tokens, mask = super().forward(inputs)
        return tokens, mask & mask.all(dim=0, keepdim=True)


class DividesByTheBlank(Words):
    def encode(self, x: Tensor, mask: Tensor) -> Tensor:
        return self.linear(x) / (x - self.embed.weight[0]).abs().sum(dim=(1, 2), keepdim=True)


class RootOfTheBlank(Words):
    def encode(self, x: Tensor, mask: Tensor) -> Tensor:
        return self.linear(x) + (x - self.embed.weight[0]).abs().sum(dim=(1, 2), keepdim=True).sqrt()


class DependsOnData(Words):
    def encode(self, x: Tensor, mask: Tensor) -> Tensor:
        return self.linear(x) if bool(mask.all()) else self.linear(x) + 0.0


class KnowsItsExample(Words):
    def encode(self, x: Tensor, mask: Tensor) -> Tensor:
        return self.linear(x) if x.shape[1] != 4 else self.linear(x) + 0.0


BROKEN = [
    (NoWidth, "sets `embed_dim`.*it is None.*set it in __init__"),
    (OtherModality, "its preprocessor's modality.*'image' and 'text'"),
    (NoModality, "has a modality and an embed_dim: they are '' and 8"),
    (PlainList, r"registers its parameters.*PlainList\.scales is a plain container.*ParameterList"),
    (PlainDictOfModules, r"PlainDictOfModules\.branches is a plain container"),
    (Unlisted, r"exactly once: linear\.weight, linear\.bias not listed"),
    (ListedTwice, r"exactly once: linear\.bias listed more than once"),
    (ListsAStranger, r"exactly once: 1 of those listed are not in encoder\.parameters"),
    (FailsToList, "exactly once: AttributeError.*no_such_layer"),
    (Unused, r"a gradient: pooler\.weight, pooler\.bias without; remove what the tokens do not depend on"),
    (Frozen, r"a gradient: embed\.weight frozen; leave that to the transfer strategy"),
    (WithoutGradient, "a gradient: the tokens carry none; is there a no_grad"),
    (InfiniteGradient, r"a gradient: that of linear\.bias is not finite"),
    (OneTokenWithoutAxis, r"tokens \[b l d\].*float32 \[3, 8\] for 3 records"),
    (OtherWidth, "d = 4, not 8"),
    (IntegerMask, r"the mask is torch\.int64 \[3, 4\].*True = real"),
    (NothingReal, r"a real token: samples \[0, 1, 2\] have none"),
    (NotFinite, "finite tokens: NaN or infinity among real tokens"),
    (Constant, "depend on the record: two samples gave the same tokens"),
    (Random, "deterministic in eval mode.*only `if self.training`"),
    (WritesIntoInputs, r"leaves its inputs unchanged: \['input_ids'\] changed"),
    (LooksAtItsMates, "each record by itself.*use GroupNorm or LayerNorm"),
    (SqueezesTheBatch, r"\[4, 1, 8\] for 1 records"),
    (AveragesPadding, "whatever the padding.*off by up to.*set ignores_padding = False"),
    (LosesTokensToPadding, "whatever the padding: 1 real tokens instead of"),
    (RootOfTheBlank, r"a gradient: that of embed\.weight is not finite where the value is missing"),
    (DividesByTheBlank, "finite where the value is missing"),
]


@pytest.mark.parametrize(("kind", "message"), BROKEN, ids=lambda value: getattr(value, "__name__", ""))
def test_a_broken_promise_is_named(kind: type[Words], message: str) -> None:
    torch.manual_seed(0)
    with pytest.raises(ContractError, match=message):
        check_encoder(kind(), samples=TEXTS, export=False)


def test_what_cannot_be_exported_is_found() -> None:
    with pytest.raises(ContractError, match="exports to ONNX opset 20"):
        check_encoder(DependsOnData(), samples=TEXTS)


def test_an_axis_that_the_graph_fixed_is_found() -> None:
    message = r"input_ids is \('batch', 4\) in the graph, declared as \('batch', 'tokens'\)"
    with pytest.raises(ContractError, match=message):
        check_encoder(KnowsItsExample(), samples=TEXTS)


def test_a_graph_that_answers_otherwise_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    export = testing.export_onnx
    monkeypatch.setattr(testing, "export_onnx", lambda encoder, batch: export(Words(), batch))
    with pytest.raises(ContractError, match=r"same tokens as an ONNX graph: off by up to .* at batch 1"):
        check_encoder(Words(), samples=TEXTS)


def test_padding_may_matter_where_the_encoder_says_so() -> None:
    encoder = AveragesPadding()
    encoder.ignores_padding = False
    check_encoder(encoder, samples=TEXTS, export=False)


def test_mates_may_not_matter_even_where_padding_does() -> None:
    encoder = LooksAtItsMates()
    encoder.ignores_padding = False
    with pytest.raises(ContractError, match="each record by itself"):
        check_encoder(encoder, samples=TEXTS, export=False)


def test_what_a_rebuilt_encoder_forgets_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    class Forgetful(Words):
        def __init__(self) -> None:
            super().__init__()
            self.offset = torch.randn(8)

        def encode(self, x: Tensor, mask: Tensor) -> Tensor:
            return self.linear(x) + self.offset

    monkeypatch.setattr(registry.ENCODERS, "registered", {})
    register_encoder("tests/forgetful", modality="text")(Forgetful)
    with pytest.raises(ContractError, match=r"tests/forgetful .*after saving and loading.*not in the state_dict"):
        check_encoder(registry.create_encoder("tests/forgetful"), samples=TEXTS, export=False)


class AnySize(Encoder):
    """An encoder of images around whatever preprocessor it is given."""

    def __init__(self, preprocessor: Any) -> None:
        super().__init__()
        self.modality = "image"
        self.embed_dim = 4
        self.preprocessor = preprocessor
        self.conv = nn.Conv2d(3, 4, 2, stride=2)

    def forward(self, inputs: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        tokens = self.conv(inputs["pixels"].float() / 255).flatten(2).transpose(1, 2)
        return tokens, all_real(tokens)

    def depth_groups(self) -> list[list[nn.Parameter]]:
        return [list(self.parameters())]


class RandomCrop(ImagePreprocessor):
    def __call__(self, raw: Any) -> dict[str, np.ndarray]:
        pixels = super().__call__(raw)["pixels"]
        return {"pixels": np.random.default_rng().permuted(pixels)}


class ForgetsItsCrop(ImagePreprocessor):
    def to_config(self) -> dict[str, Any]:
        return {**super().to_config(), "crop": None}


class HoldsAnArray(ImagePreprocessor):
    def to_config(self) -> dict[str, Any]:
        return {**super().to_config(), "size": np.int64(self.size)}


class FromNobody(ImagePreprocessor):
    def to_config(self) -> dict[str, Any]:
        return {**super().to_config(), "kind": "tests/from-nobody"}


class Undeclared(ImagePreprocessor):
    """Keeps each image's own size, and says that it is fixed."""

    def __call__(self, raw: Any) -> dict[str, np.ndarray]:
        return {"pixels": np.ascontiguousarray(raw.transpose(2, 0, 1))}

    def stack(self, samples: Any) -> dict[str, np.ndarray]:
        width = max(sample["pixels"].shape[2] for sample in samples)
        padded = [np.pad(s["pixels"], ((0, 0), (0, 0), (0, width - s["pixels"].shape[2]))) for s in samples]
        return {"pixels": np.stack(padded)}


class Declared(ImagePreprocessor):
    def __init__(self, *tensors: TensorSpec) -> None:
        super().__init__(8)
        self.tensors = tensors


class NoBlank(ImagePreprocessor):
    def blank(self) -> dict[str, np.ndarray]:
        return {}


PIXELS = TensorSpec("pixels", "uint8", ("batch", 3, 8, 8))


@pytest.mark.parametrize(
    ("preprocessor", "message"),
    [
        (RandomCrop(8), "preprocesses alike once rebuilt from JSON: another array came out.*free of chance"),
        (
            ForgetsItsCrop(16, crop=8),
            "preprocesses alike once rebuilt from JSON: another array came out; put every setting into to_config",
        ),
        (HoldsAnArray(8), "preprocesses alike once rebuilt from JSON: TypeError: .*not JSON serializable"),
        (
            FromNobody(8),
            "preprocesses alike once rebuilt from JSON: LookupError: there is no preprocessor 'tests/from-nobody'",
        ),
        (Undeclared(8), r"preprocessor\.tensors declares: pixels is uint8 .*; a varying axis needs a name"),
        (NoBlank(8), "has a blank that stands in for a missing value: ValueError"),
        (Declared(PIXELS, PIXELS), "declares its tensors.*name each once"),
        (Declared(), "declares its tensors.*name each once"),
        (Declared(TensorSpec("pixels", "uint8", (3, 8, 8))), "the batch as every tensor's first axis"),
        (object(), "sets `preprocessor`"),
    ],
)
def test_a_preprocessor_that_breaks_a_promise_is_found(preprocessor: Any, message: str) -> None:
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (8, width, 3), np.uint8) for width in (8, 9, 12)]
    with pytest.raises(ContractError, match=message):
        check_encoder(AnySize(preprocessor), samples=images, export=False)


def test_every_preprocessor_above_is_broken_by_one_thing_only() -> None:
    check_encoder(AnySize(ImagePreprocessor(8)), export=False)


def test_something_that_is_no_encoder_is_refused() -> None:
    with pytest.raises(ContractError, match=r"Linear breaks the promise that an encoder is an encoders\.base\.Encoder"):
        check_encoder(nn.Linear(2, 2))  # type: ignore[arg-type]


def test_a_sample_that_cannot_be_read_is_found() -> None:
    with pytest.raises(ContractError, match="preprocesses raw values: UnreadableValueError: a text cannot be a int"):
        check_encoder(Words(), samples=[1, 2, 3])


def test_too_few_samples_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 3 samples, 1 were given"):
        check_encoder(Words(), samples=["apple"])


def test_an_unknown_modality_needs_samples() -> None:
    with pytest.raises(
        ValueError, match=r"no samples of modality 'radar'; give check_encoder\(\.\.\., samples=\[raw values"
    ):
        default_samples("radar")


@pytest.mark.parametrize("modality", ["image", "text", "audio"])
def test_default_samples_are_alike_each_time_and_differ_in_size(modality: str) -> None:
    def flat(samples: list[Any]) -> str:
        return json.dumps([np.asarray(s[0] if modality == "audio" else s).tolist() for s in samples])

    samples = default_samples(modality)
    assert flat(samples) == flat(default_samples(modality))
    lengths = {np.shape(s[0]) if modality == "audio" else len(s) for s in samples}
    assert len(lengths) == len(samples)
