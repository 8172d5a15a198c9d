from typing import Any, ClassVar

import pytest
import torch
import torch.distributed as dist
from support.assertions import assert_close, near
from torch import Tensor, nn

from encoders.base import Encoder, all_real
from fusion import create_fusion
from multimodal.model import MultimodalModel, drop_modalities
from multimodal.model.heads import ClassificationHead, Head, RegressionHead
from multimodal.model.input_heads import LateHead

FUSIONS = {"concat": 8, "attention": 8, "gated": 8, "late": None}
RECORDS = 6

every_fusion = pytest.mark.parametrize("fusion", FUSIONS)


class Tokens(Encoder):
    """A token a number: ``values`` [b l], of which NaN is padding."""

    def __init__(self, embed_dim: int) -> None:
        super().__init__()
        self.modality, self.embed_dim = "text", embed_dim
        self.linear = nn.Linear(1, embed_dim)

    def forward(self, inputs: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        values = inputs["values"]
        return self.linear(values.nan_to_num(99.0)[..., None]), ~values.isnan()

    def depth_groups(self) -> list[list[nn.Parameter]]:
        return [list(self.linear.parameters())]


class Normed(Encoder):
    """One token from ``pixels`` [b 3], through a BatchNorm, which sees one value a channel and record."""

    def __init__(self, embed_dim: int) -> None:
        super().__init__()
        self.modality, self.embed_dim = "image", embed_dim
        self.linear, self.norm = nn.Linear(3, embed_dim), nn.BatchNorm1d(embed_dim)
        self.seen: list[int] = []

    def forward(self, inputs: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        self.seen.append(len(inputs["pixels"]))
        tokens = self.norm(self.linear(inputs["pixels"]))[:, None]
        return tokens, all_real(tokens)

    def depth_groups(self) -> list[list[nn.Parameter]]:
        return [list(self.linear.parameters()), list(self.norm.parameters())]


def heads(width: int) -> dict[str, Head]:
    return {"kind": ClassificationHead(width, ["a", "b", "c"]), "price": RegressionHead(width)}


def late_heads(dims: dict[str, int]) -> dict[str, Head]:
    own = {name: heads(width) for name, width in dims.items()}
    return {task: LateHead({name: own[name][task] for name in dims}, dims) for task in heads(1)}


def build(fusion: str = "gated", inputs: int = 3, **kwargs: Any) -> MultimodalModel:
    torch.manual_seed(0)
    encoders = dict(list({"image": Normed(5), "text": Tokens(4), "note": Tokens(3)}.items())[:inputs])
    dims = {name: encoder.embed_dim for name, encoder in encoders.items()}
    fused = create_fusion(fusion, dims, FUSIONS[fusion], dropout=0.0)
    return MultimodalModel(encoders, fused, late_heads(dims) if fusion == "late" else heads(8), **kwargs)


def batch(model: MultimodalModel, records: int = RECORDS) -> dict[str, dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    arrays = {
        "image": {"pixels": torch.randn(records, 3, generator=generator)},
        "text": {"values": torch.randn(records, 4, generator=generator)},
        "note": {"values": torch.randn(records, 2, generator=generator)},
    }
    for row in range(records):  # texts of several lengths
        arrays["text"]["values"][row, 1 + row % 4 :] = torch.nan
    present = torch.ones(records, dtype=torch.bool)
    return {name: {**arrays[name], "present": present.clone()} for name in model.input_names}


def flat(output: Any) -> dict[str, Tensor]:
    return {**output.outputs, "fused": output.fused, **{f"pooled {k}": v for k, v in output.pooled.items()}}


def buffers(module: nn.Module) -> dict[str, Tensor]:
    return {name: buffer.clone() for name, buffer in module.named_buffers()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return list(one) == list(other) and all(torch.equal(one[name], other[name]) for name in one)


# --- the contract ---


@every_fusion
@pytest.mark.parametrize("inputs", [1, 2, 3])
def test_shapes_and_one_record_as_among_many(fusion, inputs):
    model = build(fusion, inputs).eval()
    arrays = batch(model)
    output = model(arrays)
    assert {name: tuple(value.shape) for name, value in output.outputs.items()} == {"kind": (6, 3), "price": (6, 1)}
    assert output.fused.shape == (6, model.fusion.out_dim)
    widths = {"image": 5, "text": 4, "note": 3}
    assert {name: value.shape[1] for name, value in output.pooled.items()} == dict(list(widths.items())[:inputs])
    for row in range(RECORDS):
        one = model({name: {key: array[[row]] for key, array in given.items()} for name, given in arrays.items()})
        for name, value in flat(one).items():
            assert_close(value, flat(output)[name][[row]])


@every_fusion
def test_forward_is_encode_then_fuse(fusion):
    model = build(fusion)
    for mode in (False, True):
        model.train(mode)
        arrays = batch(model)
        arrays["text"]["present"][2] = False
        tokens, masks = model.encode(arrays)
        assert same(flat(model.fuse(tokens, masks)), flat(model(arrays)))


@every_fusion
@pytest.mark.parametrize("inputs", [1, 2, 3])
@pytest.mark.parametrize("missing", ["none", "some", "all of one input"])
def test_every_parameter_gets_a_finite_gradient(fusion, inputs, missing):
    model = build(fusion, inputs).train()
    arrays = batch(model)
    if missing != "none":
        arrays["image"]["present"][slice(None) if inputs > 1 and "all" in missing else slice(0, 2)] = False
    output = model(arrays)
    sum(value.square().sum() for value in output.outputs.values()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
    if missing == "some" and fusion != "late":
        assert model.fusion.missing["image"].grad.abs().sum() > 0


def test_the_mean_of_real_tokens_is_pooled_and_the_learned_token_where_there_is_none():
    model = build().eval()
    arrays = batch(model)
    arrays["text"]["present"][3] = False
    tokens, masks = model.encode(arrays)
    pooled = model.fuse(tokens, masks).pooled["text"]
    assert_close(pooled[1], tokens["text"][1, :2].mean(dim=0))  # a text of two words
    assert_close(pooled[3], model.fusion.missing["text"])
    assert masks["text"].sum(dim=1).tolist() == [1, 2, 3, 0, 1, 2]


@every_fusion
def test_more_padding_does_not_change_the_answer(fusion):
    model = build(fusion).eval()
    arrays = batch(model)
    expected = flat(model(arrays))
    arrays["text"]["values"] = nn.functional.pad(arrays["text"]["values"], (0, 3), value=torch.nan)
    for name, value in flat(model(arrays)).items():
        assert_close(value, expected[name])


@every_fusion
def test_what_a_missing_value_holds_never_reaches_an_answer(fusion):
    model = build(fusion).eval()
    arrays = batch(model)
    for name in model.input_names:
        arrays[name]["present"][4] = name == "note"
    expected = flat(model(arrays))
    arrays["image"]["pixels"][4] = 1e4
    arrays["text"]["values"][4] = -1e4
    assert same(flat(model(arrays)), expected)


@every_fusion
@pytest.mark.parametrize("mode", ["eval", "train"])
def test_present_rows_are_untouched_by_blank_rows_in_their_batch(fusion, mode):
    """In training also where an encoder holds a BatchNorm, whose running statistics stay those of the real rows."""
    real, mixed = build(fusion).train(mode == "train"), build(fusion).train(mode == "train")
    arrays = batch(real)
    rows = torch.tensor([0, 2, 3])
    blanked = {name: dict(given) for name, given in arrays.items()}
    present = torch.zeros(RECORDS, dtype=torch.bool)
    present[rows] = True
    blanked["image"] = {"pixels": torch.where(present[:, None], arrays["image"]["pixels"], 77.0), "present": present}
    expected = real({name: {key: array[rows] for key, array in given.items()} for name, given in arrays.items()})
    output = mixed(blanked)
    for name, value in flat(output).items():
        assert_close(value[rows], flat(expected)[name])
        assert value.isfinite().all()
    assert same(buffers(mixed), buffers(real))


def test_in_training_encoders_run_on_present_rows_and_in_evaluation_on_all():
    model = build()
    arrays = batch(model)
    arrays["image"]["present"][:4] = False
    encoder = model.encoder("image")
    model.train()(arrays)
    model.eval()(arrays)
    assert encoder.seen == [2, 6]


@every_fusion
def test_a_batch_without_an_input_leaves_its_encoder_as_it_was(fusion):
    model = build(fusion).train()
    arrays = batch(model)
    arrays["image"]["present"][:] = False
    before = buffers(model)
    output = model(arrays)
    assert all(value.isfinite().all() for value in flat(output).values())
    token = torch.zeros(5) if fusion == "late" else model.fusion.missing["image"]
    assert_close(output.pooled["image"], token.expand(RECORDS, -1))
    output.fused.sum().backward()
    assert same(buffers(model), before)
    for parameter in model.encoder("image").parameters():
        assert torch.equal(parameter.grad, torch.zeros_like(parameter))
    assert model.encoder("image").norm.training  # as before the batch


@pytest.mark.parametrize("widths", [(5, 1), (1, 1), (1, 4), (5, 4)])
@pytest.mark.parametrize("constant", [False, True])
def test_late_fusion_hears_an_input_whose_tokens_are_normalised_to_zeros(widths, constant):
    """Bayes over the inputs that are there: what each head says alone moves the prior."""
    torch.manual_seed(0)
    encoders = {"image": Normed(widths[0]), "text": Tokens(widths[1])}
    if constant:  # the same number at every place of a token
        nn.init.constant_(encoders["text"].linear.weight, 0.5)
        nn.init.constant_(encoders["text"].linear.bias, 0.25)
    dims = dict(zip(encoders, widths, strict=True))
    model = MultimodalModel(encoders, create_fusion("late", dims, None), late_heads(dims)).eval()
    arrays = batch(model)
    arrays["text"]["present"][2:4] = False
    arrays["image"]["present"][4] = False
    output = model(arrays)
    head = model.late_heads["kind"]
    alone = {name: values - head.one.prior for name, values in head.outputs(output.fused).items()}
    expected = head.one.prior + sum(alone[name] * arrays[name]["present"][:, None] for name in alone)
    assert_close(output.outputs["kind"], expected)


def test_a_record_alone_in_its_batch_has_no_batch_statistics():
    """BatchNorm refuses a single value a channel; the one record is normalised as in evaluation."""
    model = build().train()
    arrays = batch(model)
    arrays["image"]["present"][:] = False
    arrays["image"]["present"][1] = True
    before = buffers(model)
    tokens, masks = model.encode(arrays)
    assert masks["image"][:, 0].tolist() == [False, True, False, False, False, False]
    assert same(buffers(model), before)
    assert model.encoder("image").norm.training
    tokens["image"].sum().backward()
    assert model.encoder("image").linear.weight.grad.abs().sum() > 0
    expected, _ = model.eval().encode(arrays)
    assert_close(tokens["image"][1], expected["image"][1])


def test_saving_and_loading_gives_the_same_model():
    model, other = build().eval(), build().eval()
    for parameter in other.parameters():
        nn.init.zeros_(parameter)
    other.load_state_dict(model.state_dict())
    assert same(flat(other(batch(other))), flat(model(batch(model))))


# --- shared encoders and names ---


def test_a_shared_encoder_is_kept_once_and_runs_for_each_input():
    shared = Tokens(4)
    fusion = create_fusion("concat", {"front": 4, "back": 4}, 8)
    model = MultimodalModel({"front": shared, "back": shared}, fusion, heads(8)).eval()
    assert list(model.encoders) == ["front"]
    assert [name for name in model.state_dict() if "encoders" in name] == [
        "encoders.front.linear.weight",
        "encoders.front.linear.bias",
    ]
    assert model.encoder("back") is shared
    assert model.encoder_of == {"front": "front", "back": "front"}
    assert model.input_names == ("front", "back")
    present = torch.ones(2, dtype=torch.bool)
    given = {name: {"values": torch.randn(2, 3), "present": present} for name in ("front", "back")}
    tokens, _ = model.encode(given)
    for name in ("front", "back"):
        assert torch.equal(tokens[name], shared(given[name])[0])


def test_inputs_and_tasks_may_have_the_names_of_torchs_own_attributes():
    names = ["type", "values", "training", "half"]
    fusion = create_fusion("gated", dict.fromkeys(names, 4), 8)
    tasks = {name: RegressionHead(8) for name in ("type", "items", "double")}
    model = MultimodalModel({name: Tokens(4) for name in names}, fusion, tasks).train()
    assert model.training is True
    assert (list(model.encoders), list(model.heads)) == (names, ["type", "items", "double"])
    assert "type" in model.heads
    assert "copy" not in model.heads
    assert dict(model.heads.items()) == tasks
    assert model.head("double") is tasks["double"]
    present = torch.ones(2, dtype=torch.bool)
    output = model({name: {"values": torch.randn(2, 3), "present": present} for name in names})
    assert list(output.outputs) == ["type", "items", "double"]
    sum(value.sum() for value in output.outputs.values()).backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    model.load_state_dict(model.state_dict())
    assert len(model.state_dict()) == len({id(value) for value in model.state_dict().values()})


# --- modality dropout ---


def random_masks(records: int) -> dict[str, Tensor]:
    """Three inputs, some missing, never all."""
    torch.manual_seed(0)
    masks = {name: torch.rand(records, length) < 0.5 for name, length in (("a", 1), ("b", 3), ("c", 2))}
    empty = ~torch.cat(list(masks.values()), dim=1).any(dim=1)
    masks["b"][empty, 1] = True
    return masks


@pytest.mark.parametrize("probability", [0.3, 0.999])
def test_modality_dropout_never_hides_all_and_shows_nothing_new(probability):
    masks = random_masks(5000)
    kept = drop_modalities(masks, dict.fromkeys(masks, probability))
    assert torch.cat(list(kept.values()), dim=1).any(dim=1).all()
    for name, mask in masks.items():
        shown = kept[name].any(dim=1)
        assert torch.equal(kept[name], mask & shown[:, None])  # the whole input of a record, or nothing of it


def test_modality_dropout_draws_for_each_record_and_input_at_its_rate():
    """Each input of three is hidden with p, but for its third of the p**3 records that would lose all."""
    masks = {name: torch.ones(40_000, 2, dtype=torch.bool) for name in "abc"}
    torch.manual_seed(0)
    hidden = torch.stack([~mask[:, 0] for mask in drop_modalities(masks, dict.fromkeys(masks, 0.4)).values()], dim=1)
    expected = 0.4 - 0.4**3 / 3
    assert (hidden.float().mean(dim=0) - expected).abs().max() < 4 * (expected * (1 - expected) / 40_000) ** 0.5
    combinations = {tuple(row) for row in hidden.tolist()}
    assert len(combinations) == 7  # all but (True, True, True)


def test_each_input_has_its_own_rate():
    masks = {name: torch.ones(40_000, 2, dtype=torch.bool) for name in "abc"}
    torch.manual_seed(0)
    kept = drop_modalities(masks, {"a": 0.5, "b": 0.1, "c": 0.0})
    rates = [1 - kept[name][:, 0].float().mean() for name in "abc"]
    assert rates[0] == near(0.5, "a hundredth")
    assert rates[1] == near(0.1, "a hundredth")
    assert rates[2] == 0
    assert build(modality_dropout={"text": 0.5}).modality_dropout == {"image": 0.0, "text": 0.5, "note": 0.0}
    assert build(modality_dropout=0).modality_dropout == {"image": 0, "text": 0, "note": 0}


def test_modality_dropout_leaves_a_record_without_any_input_as_it_is():
    masks = {name: torch.zeros(3, 2, dtype=torch.bool) for name in "ab"}
    assert not any(mask.any() for mask in drop_modalities(masks, dict.fromkeys(masks, 0.5)).values())


def test_modality_dropout_acts_in_training_alone():
    model, plain = build(modality_dropout=0.9), build()
    arrays = batch(model)
    assert same(flat(model.eval()(arrays)), flat(plain.eval()(arrays)))
    model.train()
    seen = []
    model.fusion.register_forward_pre_hook(lambda _, given: seen.append(given[1]["text"]))
    for _ in range(20):
        model(arrays)
    hidden = [~mask.any(dim=1) for mask in seen]
    assert 0.4 < torch.stack(hidden).float().mean() < 0.9  # one of three is always kept


@every_fusion
def test_an_input_that_a_task_may_not_use_is_hidden_from_it_alone(fusion):
    model = build(fusion, reads={"price": ["text"]}).eval()
    arrays = batch(model)
    everything = model(arrays)
    arrays["image"]["present"][:] = False
    arrays["note"]["present"][:] = False
    text_alone = model(arrays)
    assert_close(everything.outputs["price"], text_alone.outputs["price"])
    assert (everything.outputs["kind"] - text_alone.outputs["kind"]).abs().min() > 0
    assert_close(everything.fused, build(fusion).eval()(batch(model)).fused)


def test_modality_dropout_never_hides_the_only_input_of_a_task():
    model = build(reads={"price": ["text"], "kind": ["text"]}, modality_dropout=0.9).train()
    seen = []
    model.fusion.register_forward_pre_hook(lambda _, given: seen.append(given[1]))
    for _ in range(10):
        model(batch(model))
    alone = [masks for masks in seen if not masks["image"].any() and not masks["note"].any()]
    assert sum(bool(masks["text"].any(dim=1).all()) for masks in alone) >= 10


def test_kept_tokens_stand_in_the_place_of_an_encoder_s_inputs():
    model = build().eval()
    arrays = batch(model)
    expected = model(arrays)
    tokens, mask = model.encoder("text")(arrays["text"])
    arrays["text"] = {"tokens": tokens, "mask": mask, "present": arrays["text"]["present"]}
    assert same(flat(model(arrays)), flat(expected))
    model.train()
    assert_close(model.encode(arrays)[0]["text"], tokens)


def test_without_modality_dropout_nothing_is_drawn():
    model = build().train()
    arrays = batch(model)
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    model(arrays)
    assert torch.equal(torch.rand(1), expected)


# --- train and eval mode ---


def test_what_is_frozen_stays_in_eval_mode():
    model = build("attention")
    for parameter in model.encoder("image").parameters():
        parameter.requires_grad_(False)
    before = buffers(model)
    model.train()
    assert not any(module.training for module in model.encoder("image").modules())
    assert model.encoder("text").linear.training
    assert all(module.training for module in model.fusion.modules() if isinstance(module, nn.Dropout))
    model(batch(model))
    assert same(buffers(model), before)
    model.eval()
    assert not any(module.training for module in model.modules())


# --- several processes ---


class Synced(nn.SyncBatchNorm):
    """Notes how many rows it saw; like its parent it normalises by statistics that several processes share."""

    seen: ClassVar[list[int]] = []

    def forward(self, input: Tensor) -> Tensor:
        self.seen.append(len(input))
        return input * self.weight + self.bias


@pytest.fixture
def synced(monkeypatch):
    """A model whose image encoder shares batch statistics with one other process, which has ``others`` rows."""

    def make(others: int) -> MultimodalModel:
        monkeypatch.setattr(dist, "is_initialized", lambda: True)
        monkeypatch.setattr(dist, "all_reduce", lambda total: total.add_(others))
        model = build().train()
        model.encoder("image").norm = Synced(5)
        Synced.seen.clear()
        return model

    return make


@pytest.mark.parametrize(
    "here, others, seen",
    [
        (0, 4, 0),  # the others wait for this process's part of the statistics, which is empty
        (0, 0, 1),  # nobody has a row: a blank one in eval mode
        (1, 0, 1),
        (6, 0, 6),
    ],
)
def test_shared_batch_statistics_get_each_processs_rows(synced, here, others, seen):
    model = synced(others)
    arrays = batch(model)
    arrays["image"]["present"][here:] = False
    output = model(arrays)
    assert Synced.seen == [seen]
    output.fused.sum().backward()
    gradients = [parameter.grad for parameter in model.encoder("image").parameters()]
    assert all(gradient is not None and gradient.isfinite().all() for gradient in gradients)
    assert any(gradient.abs().sum() > 0 for gradient in gradients) == (here > 0)
    assert output.fused.isfinite().all()
