import numpy as np
import pytest
import torch
import torch.nn.functional as F
from support.assertions import assert_close
from torch import Tensor

from fusion import FusionModule, create_fusion, list_fusions
from fusion.attention import attend
from fusion.base import masked_mean

IN_DIMS = {"image": 6, "text": 4, "audio": 5}
LENGTHS = {"image": 1, "text": 7, "audio": 3}
LEARNED = [("concat", None), ("concat", 8), ("gated", 8), ("attention", 8)]
CASES = [*LEARNED, ("late", None)]

every_fusion = pytest.mark.parametrize("name, out_dim", CASES)
every_learned_fusion = pytest.mark.parametrize("name, out_dim", LEARNED)
every_number_of_inputs = pytest.mark.parametrize("inputs", [1, 2, 3])


def build(name: str, out_dim: int | None, inputs: int = 3) -> FusionModule:
    torch.manual_seed(0)
    fusion = create_fusion(name, dict(list(IN_DIMS.items())[:inputs]), out_dim)
    for parameter in fusion.parameters():  # biases start at zero, which would hide that they are used
        torch.nn.init.normal_(parameter, std=0.5)
    return fusion.eval()


def batch(fusion: FusionModule, records: int = 4) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Tokens and masks, every input present, each record with at least one real token and some padding."""
    generator = torch.Generator().manual_seed(1)
    tokens = {n: torch.randn(records, LENGTHS[n], d, generator=generator) for n, d in fusion.in_dims.items()}
    masks = {n: torch.rand(records, LENGTHS[n], generator=generator) < 0.6 for n in fusion.in_dims}
    for mask in masks.values():
        mask[:, 0] = True
    return tokens, masks


def select(tensors: dict[str, Tensor], rows) -> dict[str, Tensor]:
    return {name: tensor[rows] for name, tensor in tensors.items()}


@every_fusion
@every_number_of_inputs
def test_output_is_one_vector_per_record_and_no_record_sees_another(name, out_dim, inputs):
    fusion = build(name, out_dim, inputs)
    tokens, masks = batch(fusion)
    fused = fusion(tokens, masks)
    assert fused.shape == (4, fusion.out_dim)
    assert fusion.out_dim == (sum(fusion.in_dims.values()) if out_dim is None else out_dim)
    assert fused.std(dim=0).max() > 0.1  # it says something about each record
    for row in range(4):
        assert_close(fusion(select(tokens, [row]), select(masks, [row])), fused[[row]])


@every_learned_fusion
@every_number_of_inputs
def test_every_parameter_gets_a_gradient_missing_tokens_included(name, out_dim, inputs):
    fusion = build(name, out_dim, inputs).train()
    tokens, masks = batch(fusion, records=16)
    for index, mask in enumerate(masks.values()):
        mask[index] = False
    fusion(tokens, masks).pow(3).sum().backward()
    for key, parameter in fusion.named_parameters():
        assert parameter.grad is not None, key
        if inputs > 1 or key.startswith("missing") or name == "concat":
            assert parameter.grad.abs().sum() > 0, key


@every_learned_fusion
def test_with_one_pooled_input_only_what_chooses_among_inputs_learns_nothing(name, out_dim):
    """A softmax over one input, or one token, is 1."""
    fusion = build(name, out_dim, 1)
    tokens, masks = batch(fusion)
    masks["image"][0] = False
    fusion(tokens, masks).pow(3).sum().backward()
    still = {key for key, p in fusion.named_parameters() if p.grad is None or p.grad.abs().sum() == 0}
    choosing = {"gated": {"gate.weight", "gate.bias"}, "attention": {"queries", "key.weight"}}
    assert still == choosing.get(name, set())


@every_learned_fusion
@every_number_of_inputs
def test_without_a_missing_row_missing_tokens_have_a_zero_gradient(name, out_dim, inputs):
    fusion = build(name, out_dim, inputs)
    fusion(*batch(fusion)).sum().backward()
    for token in fusion.missing.values():
        assert torch.equal(token.grad, torch.zeros_like(token))


@every_learned_fusion
@every_number_of_inputs
def test_a_row_without_an_input_is_one_with_its_learned_token(name, out_dim, inputs):
    fusion = build(name, out_dim, inputs)
    tokens, masks = batch(fusion)
    for absent in fusion.in_dims:
        given = {**tokens, absent: fusion.missing[absent].expand(4, 1, -1)}
        expected = fusion(given, {**masks, absent: torch.ones(4, 1, dtype=torch.bool)})
        hidden = {**masks, absent: torch.zeros_like(masks[absent])}
        assert_close(fusion(tokens, hidden), expected)
        garbage = {**tokens, absent: 1e6 * torch.randn_like(tokens[absent])}
        assert_close(fusion(garbage, hidden), expected)


@every_fusion
def test_a_row_without_any_input_is_finite(name, out_dim):
    fusion = build(name, out_dim)
    tokens, masks = batch(fusion)
    fused = fusion(tokens, {key: torch.zeros_like(mask) for key, mask in masks.items()})
    assert fused.isfinite().all()
    assert_close(fused[1:], fused[:-1])


@every_fusion
@every_number_of_inputs
def test_present_rows_are_untouched_by_rows_without_an_input(name, out_dim, inputs):
    fusion = build(name, out_dim, inputs).train()
    for module in fusion.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    tokens, masks = batch(fusion)
    expected = fusion(tokens, masks)
    masks = {key: mask.clone() for key, mask in masks.items()}
    masks["image"][2:] = False
    assert torch.equal(fusion(tokens, masks)[:2], expected[:2])


@every_fusion
@every_number_of_inputs
def test_padding_does_not_change_the_answer(name, out_dim, inputs):
    fusion = build(name, out_dim, inputs)
    tokens, masks = batch(fusion)
    expected = fusion(tokens, masks)
    garbage = {key: torch.where(masks[key][..., None], value, 1e3) for key, value in tokens.items()}
    assert_close(fusion(garbage, masks), expected)
    longer = {key: F.pad(value, (0, 0, 0, 5), value=-77.0) for key, value in tokens.items()}
    assert_close(fusion(longer, {key: F.pad(mask, (0, 5)) for key, mask in masks.items()}), expected)


@every_fusion
def test_the_order_of_tokens_within_an_input_does_not_matter_but_the_input_does(name, out_dim):
    fusion = create_fusion(name, {"front": 4, "back": 4}, out_dim).eval()
    tokens = {key: torch.randn(3, 5, 4) for key in ("front", "back")}
    masks = {key: torch.ones(3, 5, dtype=torch.bool) for key in tokens}
    fused = fusion(tokens, masks)
    assert_close(fusion({key: value.flip(1) for key, value in tokens.items()}, masks), fused)
    swapped = {"front": tokens["back"], "back": tokens["front"]}
    assert (fusion(swapped, masks) - fused).abs().max() > 1e-3


@every_fusion
def test_saving_and_loading_gives_the_same_fusion(name, out_dim):
    fusion = build(name, out_dim)
    other = create_fusion(name, IN_DIMS, out_dim).eval()
    other.load_state_dict(fusion.state_dict())
    tokens, masks = batch(fusion)
    assert torch.equal(other(tokens, masks), fusion(tokens, masks))


@every_learned_fusion
def test_inputs_may_have_any_name(name, out_dim):
    names = ["type", "values", "items", "double", "train", "copy", "plain"]
    fusion = create_fusion(name, dict.fromkeys(names, 4), out_dim)
    tokens = {key: torch.randn(2, 3, 4) for key in names}
    masks = {key: torch.zeros(2, 3, dtype=torch.bool) for key in names}
    fusion(tokens, masks).sum().backward()
    assert {key.removeprefix("missing.") for key in fusion.state_dict() if key.startswith("missing.")} == {
        "TYPE", "VALUES", "ITEMS", "DOUBLE", "TRAIN", "COPY", "plain"
    }  # fmt: skip
    assert all(parameter.grad is not None for parameter in fusion.parameters())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@every_fusion
def test_half_precision_is_finite(name, out_dim, dtype):
    fusion = build(name, out_dim)
    tokens, masks = batch(fusion)
    expected = fusion(tokens, masks)
    masks["text"][0] = False
    halved = fusion.to(dtype)({key: value.to(dtype) for key, value in tokens.items()}, masks)
    assert halved.dtype == dtype
    assert (halved[1:].float() - expected[1:]).abs().max() < 0.1


# --- against references ---


def numpy_mean(tokens: Tensor, mask: Tensor) -> np.ndarray:
    return np.stack([row[real].mean(axis=0) for row, real in zip(tokens.numpy(), mask.numpy(), strict=True)])


def numpy_norm(x: np.ndarray, norm: torch.nn.Module) -> np.ndarray:
    centred = x - x.mean(axis=1, keepdims=True)
    scaled = centred / np.sqrt((centred**2).mean(axis=1, keepdims=True) + 1e-5)
    return scaled * norm.weight.detach().numpy() + norm.bias.detach().numpy()


def numpy_linear(x: np.ndarray, linear: torch.nn.Module) -> np.ndarray:
    return x @ linear.weight.detach().numpy().T + linear.bias.detach().numpy()


def numpy_gelu(x: np.ndarray) -> np.ndarray:
    return x * 0.5 * (1 + torch.erf(torch.from_numpy(x) / 2**0.5).numpy())


def numpy_softmax(x: np.ndarray, axis: int) -> np.ndarray:
    exponentials = np.exp(x - x.max(axis=axis, keepdims=True))
    return exponentials / exponentials.sum(axis=axis, keepdims=True)


def test_concat_without_dim_is_the_normalised_means_side_by_side():
    fusion = build("concat", None)
    tokens, masks = batch(fusion)
    means = [numpy_mean(tokens[key], masks[key]) for key in IN_DIMS]
    centred = [mean - mean.mean(axis=1, keepdims=True) for mean in means]
    expected = [x / np.sqrt(x.var(axis=1, keepdims=True) + 1e-5) for x in centred]
    assert_close(fusion(tokens, masks), np.hstack(expected))
    assert {key for key, _ in fusion.named_parameters()} == {"missing.image", "missing.text", "missing.audio"}


def test_late_is_concat_without_dim_but_for_zeros_where_an_input_is_missing():
    late, concat = build("late", None), build("concat", None)
    tokens, masks = batch(late)
    masks["text"][1] = False
    fused = late(tokens, masks)
    text = slice(IN_DIMS["image"], IN_DIMS["image"] + IN_DIMS["text"])
    assert not fused[1, text].any()
    fused[1, text] = concat(tokens, masks)[1, text]
    assert_close(fused, concat(tokens, masks))
    assert not list(late.parameters())


def test_concat_projects_the_normalised_means():
    fusion = build("concat", 8)
    tokens, masks = batch(fusion)
    means = [numpy_norm(numpy_mean(tokens[key], masks[key]), fusion.norms[key]) for key in IN_DIMS]
    assert_close(fusion(tokens, masks), numpy_gelu(numpy_linear(np.hstack(means), fusion.project[0])))


def test_gated_weighs_each_element_by_a_softmax_over_inputs():
    fusion = build("gated", 8)
    tokens, masks = batch(fusion)
    means = {key: numpy_norm(numpy_mean(tokens[key], masks[key]), fusion.norms[key]) for key in IN_DIMS}
    embedded = np.stack([np.tanh(numpy_linear(means[key], fusion.embed[key])) for key in IN_DIMS], axis=1)
    gates = numpy_linear(np.hstack(list(means.values())), fusion.gate).reshape(4, 3, 8)
    assert_close(fusion(tokens, masks), (numpy_softmax(gates, 1) * embedded).sum(axis=1))


def test_attention_is_multi_head_attention_of_learned_queries_beside_the_means():
    fusion = build("attention", 8)
    tokens, masks = batch(fusion)
    summaries, means = [], []
    for row in range(4):
        embedded = []
        for key in IN_DIMS:
            real = tokens[key][row][masks[key][row]].numpy()
            norm, linear = fusion.embed[key]
            embedded.append(
                numpy_linear(numpy_norm(real, norm), linear) + fusion.modality_embeddings[key].detach().numpy()
            )
        means.append(np.hstack([part.mean(axis=0) for part in embedded]))
        joined, queries = np.vstack(embedded), fusion.queries.detach().numpy()
        keys, values = joined @ fusion.key.weight.detach().numpy().T, numpy_linear(joined, fusion.value)
        heads = []
        for head in range(4):
            part = slice(2 * head, 2 * head + 2)
            heads.append(numpy_softmax(queries[:, part] @ keys[:, part].T / 2**0.5, 1) @ values[:, part])
        summaries.append(np.hstack(heads).ravel())
    expected = numpy_gelu(numpy_linear(np.hstack([summaries, means]), fusion.out[0]))
    assert_close(fusion(tokens, masks), expected)


def test_attend_agrees_with_torchs_attention_and_gives_zero_without_a_token():
    queries, keys, values = torch.randn(3, 2, 4, 8), torch.randn(3, 2, 6, 8), torch.randn(3, 2, 6, 8)
    mask = torch.rand(3, 6) < 0.5
    mask[:2, 0] = True
    mask[2] = False
    expected = F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask[:, None, None, :])
    result = attend(queries, keys, values, mask)
    assert_close(result[:2], expected[:2])
    assert torch.equal(result[2], torch.zeros_like(result[2]))


def test_the_mean_of_no_token_is_zero():
    tokens = torch.randn(2, 3, 4)
    mask = torch.tensor([[True, False, True], [False, False, False]])
    assert_close(masked_mean(tokens, mask), torch.stack([(tokens[0, 0] + tokens[0, 2]) / 2, torch.zeros(4)]))


# --- building ---


def test_every_fusion_is_listed():
    assert list_fusions() == ["concat", "attention", "gated", "late"]


def test_a_fusion_without_out_dim_takes_its_own_default():
    assert create_fusion("attention", IN_DIMS).out_dim == 256
    assert create_fusion("concat", IN_DIMS).out_dim == 15


def test_dropout_and_the_number_of_queries_and_heads_can_be_set():
    fusion = create_fusion("attention", IN_DIMS, 12, num_queries=2, num_heads=3, dropout=0.25)
    assert fusion.queries.shape == (2, 12)
    assert fusion.out[2].p == 0.25
    assert fusion.num_heads == 3


@pytest.mark.parametrize(
    "name, arguments, error, match",
    [
        ("atention", {}, LookupError, "there is no fusion 'atention'; did you mean attention"),
        ("zzz", {}, LookupError, "there are concat, attention, gated, late$"),
        ("concat", {"num_heads": 2}, TypeError, "takes no num_heads, only out_dim, dropout; leave num_heads out"),
        ("late", {"out_dim": 8}, TypeError, "takes no out_dim, only dropout; leave out_dim out"),
        ("gated", {"num_queries": 2}, TypeError, "takes no num_queries"),
        (
            "attention",
            {"out_dim": 10, "num_heads": 4},
            ValueError,
            "num_heads must divide dim, for example num_heads=2",
        ),
        ("attention", {"num_heads": 0}, ValueError, "num_heads is 0; give at least 1"),
        ("attention", {"num_queries": 0}, ValueError, "num_queries is 0"),
        ("gated", {"out_dim": 0}, ValueError, "out_dim is 0"),
        ("concat", {"out_dim": -1}, ValueError, "out_dim is -1"),
        ("concat", {"out_dim": 8, "dropout": 1.5}, ValueError, "dropout"),
    ],
)
def test_what_cannot_be_built_says_why(name, arguments, error, match):
    with pytest.raises(error, match=match):
        create_fusion(name, IN_DIMS, **arguments)


@pytest.mark.parametrize("name", list_fusions())
def test_a_fusion_needs_an_input(name):
    with pytest.raises(ValueError, match="needs at least one input; in_dims is empty"):
        create_fusion(name, {})
