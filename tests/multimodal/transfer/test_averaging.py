import pytest
import torch
from support.assertions import assert_close
from torch import Tensor, nn

from multimodal.transfer.averaging import AveragedState, ExponentialAverage, average_states, greedy_soup, wise_ft


def model(seed: int) -> nn.Sequential:
    torch.manual_seed(seed)
    found = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    for _ in range(seed + 1):
        found(torch.randn(8, 3))
    return found.eval()


START, END = model(0).state_dict(), model(1).state_dict()


@pytest.mark.parametrize("alpha, expected", [(0.0, START), (1.0, END)])
def test_both_ends_come_back_bit_exactly(alpha, expected):
    found = wise_ft(START, END, alpha)
    assert all(
        torch.equal(found.state[name], tensor) for name, tensor in expected.items() if tensor.is_floating_point()
    )
    assert found.re_estimate == ()


def test_in_between_is_the_mean_and_counters_are_copied():
    found = wise_ft(START, END, 0.25)
    assert_close(found.state["0.weight"], 0.75 * START["0.weight"] + 0.25 * END["0.weight"])
    assert int(found.state["1.num_batches_tracked"]) == 2
    assert found.re_estimate == ("1.running_mean", "1.running_var")


def test_of_linear_heads_averaging_weights_is_averaging_answers():
    first, second, mixed = nn.Linear(3, 2), nn.Linear(3, 2), nn.Linear(3, 2)
    mixed.load_state_dict(wise_ft(first.state_dict(), second.state_dict(), 0.3).state)
    x = torch.randn(5, 3)
    assert_close(mixed(x), 0.7 * first(x) + 0.3 * second(x))


def test_what_was_frozen_stays_bit_identical():
    changed = {**START, "2.weight": START["2.weight"] + 1}
    found = average_states([START, changed, START], [0.3, 0.3, 0.4])
    assert torch.equal(found.state["0.weight"], START["0.weight"])
    assert found.re_estimate == ()


def test_half_precision_stays_half_precision():
    halves = [{"w": torch.full((2,), value, dtype=torch.bfloat16)} for value in (1.0, 3.0)]
    assert average_states(halves, [0.5, 0.5]).state["w"].dtype == torch.bfloat16


def test_what_cannot_be_averaged_is_refused():
    with pytest.raises(ValueError, match="0 \\(before fine-tuning\\) to 1"):
        wise_ft(START, END, 1.5)
    with pytest.raises(ValueError, match="one architecture"):
        wise_ft(START, {"0.weight": torch.ones(4, 3)})
    with pytest.raises(ValueError, match="with sum 1"):
        average_states([START, END], [0.5, 0.6])


# --- soup --------------------------------------------------------------------------------------------------------


def scored(average: AveragedState) -> float:
    return 1.0 - abs(float(average.state["w"]) - 1.0)  # best at w = 1


def soup_of(values: dict[str, float]) -> dict[str, dict[str, Tensor]]:
    return {name: {"w": torch.tensor(value)} for name, value in values.items()}


def test_a_soup_takes_what_helps_and_leaves_what_does_not():
    states = soup_of({"low": 0.8, "high": 1.3, "far": 9.0})
    scores = {name: scored(average_states([state], [1.0])) for name, state in states.items()}
    soup = greedy_soup(states, scores, scored)
    assert soup.members == ("low", "high")
    assert soup.score == pytest.approx(0.95)
    assert_close(soup.average.state["w"], 1.05)


@pytest.mark.parametrize("seed", range(5))
def test_a_soup_is_never_worse_than_its_best_member(seed):
    values = torch.randn(6, generator=torch.Generator().manual_seed(seed)).tolist()
    states = soup_of({str(index): value for index, value in enumerate(values)})
    scores = {name: scored(average_states([state], [1.0])) for name, state in states.items()}
    assert greedy_soup(states, scores, scored).score >= max(scores.values())


def test_a_soup_of_nothing_is_refused():
    with pytest.raises(ValueError, match="one score each"):
        greedy_soup({}, {}, scored)


# --- moving average ----------------------------------------------------------------------------------------------


def test_the_moving_average_is_the_sum_written_out():
    layer = nn.Linear(1, 1)
    average = ExponentialAverage(layer, 0.15)
    expected = layer.weight.detach().clone()
    for step in range(4):
        with torch.no_grad():
            layer.weight.fill_(float(step))
        average.update(layer)
        decay = min(0.15, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * step
    assert_close(average.state["weight"], expected)


def test_of_weights_that_stand_still_the_average_is_the_weights_and_statistics_are_the_models():
    trained = model(1)
    average = ExponentialAverage(trained)
    trained.train()(torch.randn(8, 3))
    average.update(trained)
    for name, tensor in trained.state_dict().items():
        assert torch.equal(average.state[name], tensor), name


def test_a_decay_of_one_would_never_move():
    with pytest.raises(ValueError, match="below 1"):
        ExponentialAverage(nn.Linear(1, 1), 1.0)
