import pytest
import torch
from support.assertions import assert_close
from support.tiny_models import COLORS, TinyImage, TinyText, make_model
from torch import nn

from fusion import create_fusion
from multimodal.model import MultimodalModel
from multimodal.model.heads import ClassificationHead
from multimodal.transfer.lora import LowRankAdaptation
from multimodal.transfer.plan import EncoderPolicy, OptimizerSpec, ParamGroup, Phase, TransferStrategy, check_plan
from multimodal.transfer.strategies import (
    Finetune,
    GradualUnfreezing,
    LayerwiseDecay,
    LinearProbe,
    NormAndBias,
    Partial,
    ProbeThenFinetune,
    TwoPhase,
)

STRATEGIES = [
    LinearProbe(),
    Finetune(),
    Finetune(EncoderPolicy(frozen=frozenset({"text"}), unfreeze_from=1)),
    ProbeThenFinetune(),
    ProbeThenFinetune(probe_epochs=2),
    ProbeThenFinetune(probe_epochs=100),
    GradualUnfreezing(),
    GradualUnfreezing(EncoderPolicy(frozen=frozenset({"text"}), fresh=frozenset({"image"}))),
    LayerwiseDecay(),
    NormAndBias(),
    Partial(),
    TwoPhase(),
    TwoPhase(probe_epochs=100),
]


def names(model: nn.Module, *prefixes: str) -> set[str]:
    return {name for name, _ in model.named_parameters() if name.startswith(prefixes)}


def trained(phase: Phase) -> set[str]:
    return {name for group in phase.groups for name in group.params}


@pytest.mark.parametrize("strategy", STRATEGIES, ids=repr)
@pytest.mark.parametrize("epochs", [1, 2, 3, 4, 10])
def test_a_plan_fits_any_number_of_epochs_and_uses_all_of_them(strategy: TransferStrategy, epochs):
    model = make_model()
    phases = strategy.plan(model, epochs)
    check_plan(model, phases, epochs)
    assert sum(phase.epochs for phase in phases) == epochs


@pytest.mark.parametrize("strategy", STRATEGIES, ids=repr)
def test_no_parameter_is_in_two_groups_of_a_phase(strategy: TransferStrategy):
    for phase in strategy.plan(make_model(fusion="attention"), 6):
        listed = [name for group in phase.groups for name in group.params]
        assert len(listed) == len(set(listed))
        assert len({group.name for group in phase.groups}) == len(phase.groups)


@pytest.mark.parametrize("fusion", ["concat", "attention", "gated", "late"])
def test_finetune_trains_every_parameter(fusion):
    model = make_model(fusion=fusion)
    (phase,) = Finetune().plan(model, 3)
    assert trained(phase) == names(model, "")


@pytest.mark.parametrize("dim", [8, None])
def test_linear_probe_trains_fusion_and_heads_only(dim):
    model = make_model(dim=dim)
    (phase,) = LinearProbe().plan(model, 3)
    assert trained(phase) == names(model, "fusion.", "heads.")


def test_probe_then_finetune_begins_with_a_third_of_the_epochs_on_fusion_and_heads():
    model = make_model()
    probe, finetune = ProbeThenFinetune().plan(model, 9)
    assert (probe.epochs, finetune.epochs) == (3, 6)
    assert trained(probe) == names(model, "fusion.", "heads.")
    assert trained(finetune) == names(model, "")
    assert probe.patience == 3


def test_probe_then_finetune_leaves_an_epoch_to_finetuning():
    assert [phase.epochs for phase in ProbeThenFinetune(probe_epochs=5).plan(make_model(), 5)] == [4, 1]
    assert [phase.name for phase in ProbeThenFinetune(probe_epochs=5).plan(make_model(), 1)] == ["finetune"]


def test_probe_then_finetune_takes_the_number_of_probe_epochs_that_is_given():
    assert [phase.epochs for phase in ProbeThenFinetune(probe_epochs=4).plan(make_model(), 6)] == [4, 2]


@pytest.mark.parametrize("strategy", [Finetune, ProbeThenFinetune])
def test_a_frozen_input_never_trains(strategy):
    model = make_model()
    policy = EncoderPolicy(frozen=frozenset({"image"}))
    for phase in strategy(policy).plan(model, 4):
        assert not trained(phase) & names(model, "encoders.image.")
    assert names(model, "encoders.text.") <= trained(phase)


@pytest.mark.parametrize("strategy", [Finetune, ProbeThenFinetune])
def test_depth_groups_before_unfreeze_from_never_train(strategy):
    model = make_model()
    for phase in strategy(EncoderPolicy(unfreeze_from=1)).plan(model, 4):
        assert not trained(phase) & names(model, "encoders.image.first", "encoders.image.norm", "encoders.text.embed")
    assert names(model, "encoders.image.second", "encoders.text.norm", "encoders.text.project") <= trained(phase)


def test_an_encoder_without_that_many_depth_groups_is_named():
    match = r"unfreeze_from is 2, but the encoder of 'image' has only 2 depth groups \(0 to 1\); to keep it frozen"
    with pytest.raises(ValueError, match=match):
        Finetune(EncoderPolicy(unfreeze_from=2)).plan(make_model(), 3)


def test_a_frozen_encoder_may_have_any_depth():
    policy = EncoderPolicy(unfreeze_from=5, frozen=frozenset({"image", "text"}))
    model = make_model()
    assert trained(Finetune(policy).plan(model, 3)[0]) == names(model, "fusion.", "heads.")


def test_each_encoder_has_its_own_scale_of_the_learning_rate():
    (phase,) = Finetune(EncoderPolicy(scales={"image": 0.1})).plan(make_model(), 3)
    assert {group.name: group.lr_scale for group in phase.groups} == {
        "heads": 1.0,
        "encoder.image": 0.1,
        "encoder.text": 1.0,
    }


def test_an_encoder_that_two_inputs_share_is_trained_once():
    shared = TinyImage()
    encoders = {"front": shared, "back": shared, "title": TinyText()}
    fused = create_fusion("concat", dict.fromkeys(encoders, 8))
    model = MultimodalModel(encoders, fused, {"color": ClassificationHead(fused.out_dim, list(COLORS))})
    (phase,) = Finetune().plan(model, 3)
    check_plan(model, [phase], 3)
    assert [group.name for group in phase.groups] == ["heads", "encoder.front", "encoder.title"]


class NothingToLearn(TinyText):
    """Constant tokens: a lookup without parameters."""

    def __init__(self) -> None:
        super().__init__()
        table = torch.randn(8, self.embed_dim)
        del self.embed, self.norm, self.project
        self.register_buffer("table", table)

    def depth_groups(self) -> list[list[nn.Parameter]]:
        return []


def test_an_encoder_without_parameters_needs_no_group():
    fused = create_fusion("concat", {"text": 8})
    model = MultimodalModel({"text": NothingToLearn()}, fused, {"color": ClassificationHead(8, list(COLORS))})
    (phase,) = Finetune().plan(model, 1)
    assert trained(phase) == names(model, "fusion.", "heads.")


# --- plans that cannot be carried out ----------------------------------------------------------------------------


def phase(*groups: tuple[str, ...], epochs: int = 1) -> Phase:
    return Phase("odd", epochs, tuple(ParamGroup(str(number), params) for number, params in enumerate(groups)))


WEIGHT, BIAS = "heads.color.linear.weight", "heads.color.linear.bias"


@pytest.mark.parametrize(
    ("phases", "match"),
    [
        ([], "the strategy planned 0 epochs in 0 phases; 3 are allowed"),
        ([phase((WEIGHT,), epochs=0)], "the strategy planned 0 epochs in 1 phases; 3 are allowed"),
        ([phase((WEIGHT,), epochs=2)] * 2, "the strategy planned 4 epochs in 2 phases; 3 are allowed"),
        ([phase()], "phase 'odd' trains 0 parameters"),
        ([phase(("heads.brand.weight",))], r"of which the model has no \['heads.brand.weight'\]"),
        ([phase((WEIGHT, WEIGHT))], rf"the phase lists twice \['{WEIGHT}'\]; every name must be one of"),
        ([phase((WEIGHT, BIAS), (BIAS,))], rf"the phase lists twice \['{BIAS}'\]"),
        ([phase((WEIGHT,)), phase(("nothing",))], r"has no \['nothing'\]"),
    ],
)
def test_a_plan_that_cannot_be_carried_out_is_refused(phases, match):
    with pytest.raises(ValueError, match=match):
        check_plan(make_model(), phases, 3)


def test_a_plan_may_stop_before_all_epochs_are_used():
    check_plan(make_model(), [phase((WEIGHT,)), phase((WEIGHT, BIAS))], 3)


def test_the_probe_of_lp_ft_trains_encoders_with_random_weights_too():
    model = make_model()
    policy = EncoderPolicy(fresh=frozenset({"text"}), unfreeze_from=1)
    probe, finetune = ProbeThenFinetune(policy, probe_epochs=1).plan(model, 2)
    assert [group.name for group in probe.groups] == ["heads", "encoder.text"]
    assert len(probe.groups[1].params) == len(list(model.encoder("text").parameters()))  # whole, unlike the image's
    assert len(finetune.groups[1].params) == len(model.encoder("image").depth_groups()[1])


# --- depth ---


@pytest.mark.parametrize(("start", "groups"), [(-1, 1), (-2, 2), (-9, 2), (0, 2), (1, 1)])
def test_a_depth_below_zero_counts_from_the_output(start, groups):
    model = make_model()
    text = ["encoders.text."] if groups == 2 else ["encoders.text.norm", "encoders.text.project"]
    for strategy in (Finetune(EncoderPolicy(unfreeze_from=start)), Partial(EncoderPolicy(unfreeze_from=start))):
        (phase,) = strategy.plan(model, 1)
        assert {name for name in trained(phase) if name.startswith("encoders.text.")} == names(model, *text)


def test_partial_trains_the_last_depth_group_unless_it_is_told_another():
    model = make_model()
    (phase,) = Partial(EncoderPolicy(fresh=frozenset({"text"}))).plan(model, 3)
    assert trained(phase) == names(model, "fusion.", "heads.", "encoders.image.second", "encoders.text.")


def test_gradual_unfreezing_goes_from_the_output_to_the_input():
    model = make_model()
    heads, second, whole = GradualUnfreezing().plan(model, 5)
    assert [phase.epochs for phase in (heads, second, whole)] == [1, 1, 3]
    assert trained(heads) == names(model, "fusion.", "heads.")
    assert trained(second) == trained(heads) | names(
        model, "encoders.image.second", "encoders.text.norm", "encoders.text.project"
    )
    assert trained(whole) == names(model, "")


def test_gradual_unfreezing_ends_with_everything_however_few_epochs_there_are():
    model = make_model()
    assert trained(GradualUnfreezing().plan(model, 1)[-1]) == names(model, "")
    heads, whole = GradualUnfreezing().plan(model, 2)
    assert trained(heads) == names(model, "fusion.", "heads.")
    assert trained(whole) == names(model, "")


def test_gradual_unfreezing_trains_a_fresh_encoder_from_the_start():
    model = make_model()
    first = GradualUnfreezing(EncoderPolicy(fresh=frozenset({"image"}))).plan(model, 5)[0]
    assert trained(first) == names(model, "fusion.", "heads.", "encoders.image.")


def test_layerwise_rates_are_a_geometric_series_towards_the_input():
    model = make_model()
    policy = EncoderPolicy(scales={"image": 0.5}, fresh=frozenset({"text"}))
    (phase,) = LayerwiseDecay(policy, layer_decay=0.75).plan(model, 3)
    scales = {group.name: group.lr_scale for group in phase.groups}
    assert scales == {
        "heads": 1.0,
        "encoder.image.0": 0.375,
        "encoder.image.1": 0.5,
        "encoder.text.0": 1.0,
        "encoder.text.1": 1.0,
    }
    assert trained(phase) == names(model, "")


# --- a small part of the parameters ---


def test_norm_and_bias_trains_exactly_these_and_the_heads():
    model = make_model(norm="batch")
    (phase,) = NormAndBias().plan(model, 3)
    expected = {name for name in names(model, "encoders.") if name.endswith(".bias") or ".norm." in name}
    assert trained(phase) == names(model, "fusion.", "heads.") | expected
    sizes = {name: parameter.numel() for name, parameter in model.named_parameters()}
    # image: BatchNorm 8 + 8, biases 8 + 8; text: LayerNorm 8 + 8, bias 8
    assert sum(sizes[name] for name in expected) == 32 + 24


def test_lora_trains_low_rank_parts_and_leaves_the_model_s_names_behind():
    model = make_model()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    strategy = LowRankAdaptation(EncoderPolicy(fresh=frozenset({"image"})), rank=2, alpha=4.0)
    strategy.prepare(model)
    (phase,) = strategy.plan(model, 3)
    check_plan(model, [phase], 3)
    low_rank = {name for name in trained(phase) if ".lora_" in name}
    assert {name.split(".")[1] for name in low_rank} == {"text"}
    assert trained(phase) - low_rank == names(model, "fusion.", "heads.", "encoders.image.")
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name in low_rank:
                parameter.fill_(0.5)
    strategy.finish(model)
    after = model.state_dict()
    assert list(after) == list(before)
    assert {name for name in before if not torch.equal(after[name], before[name])} == {"encoders.text.project.weight"}
    moved = after["encoders.text.project.weight"] - before["encoders.text.project.weight"]
    assert_close(moved, torch.ones(8, 8))  # alpha / rank * B A, of rank 2 and 0.5 everywhere


def test_lora_leaves_a_frozen_encoder_alone():
    model = make_model()
    strategy = LowRankAdaptation(EncoderPolicy(frozen=frozenset({"text", "image"})))
    strategy.prepare(model)
    (phase,) = strategy.plan(model, 1)
    assert trained(phase) == names(model, "fusion.", "heads.")


# --- two phases ---


def test_two_phases_are_new_heads_and_then_all_by_the_classic_sgd():
    model = make_model()
    probe, finetune = TwoPhase(EncoderPolicy(unfreeze_from=1)).plan(model, 10)
    assert (probe.epochs, finetune.epochs, probe.patience) == (5, 5, 3)
    assert trained(probe) == names(model, "fusion.", "heads.")
    assert trained(finetune) == trained(probe) | names(
        model, "encoders.image.second", "encoders.text.norm", "encoders.text.project"
    )
    assert probe.optimizer is None
    assert finetune.optimizer == OptimizerSpec("sgd", 1e-4, weight_decay=0.0, momentum=0.9, warmup=0.0)
    assert {group.lr_scale for group in finetune.groups} == {1.0}
