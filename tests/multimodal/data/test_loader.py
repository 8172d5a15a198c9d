import itertools

import pytest
import torch
from support.tiny_models import make_dataset, make_model, make_rows

from multimodal.data.dataset import StepLoader
from multimodal.data.order import Order

N, BATCH = 13, 4


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("media")
    return make_dataset(make_rows(folder, N), folder, make_model())


def rows(loader: StepLoader, start: int, stop: int, **world: int) -> list[list[list[int]]]:
    """Step -> micro-batch -> its rows."""
    return [[batch.rows for batch in parts] for parts in loader.steps(start, stop, **world)]


@pytest.mark.parametrize(("start", "stop"), [(0, 4), (1, 4), (3, 9), (4, 5), (7, 7)])
def test_a_stretch_of_steps_is_that_part_of_the_whole_training(data, start, stop):
    loader = StepLoader(data, Order(N, BATCH, seed=1), accumulate=2)
    assert rows(loader, start, stop) == rows(loader, 0, 12)[start:stop]


@pytest.mark.parametrize("accumulate", [1, 2, 3, 4, 9])
def test_micro_batches_hold_the_rows_of_their_step_in_order(data, accumulate):
    order = Order(N, BATCH, seed=1)
    for parts, (block,) in zip(rows(StepLoader(data, order, accumulate), 0, 4), order.blocks(0), strict=True):
        assert len(parts) == min(accumulate, len(block))
        assert [row for part in parts for row in part] == block.tolist()


def test_processes_share_the_rows_of_each_step_and_workers_change_nothing(data):
    order = Order(N, BATCH, seed=1)
    ranks = [rows(StepLoader(data, order), 0, 4, rank=rank, world=2) for rank in range(2)]
    for step, (block,) in enumerate(order.blocks(0)):
        assert sorted(itertools.chain(*ranks[0][step], *ranks[1][step])) == sorted(block.tolist())
    for ours, theirs in zip(
        StepLoader(data, order).steps(0, 4), StepLoader(data, order, workers=1).steps(0, 4), strict=True
    ):
        assert all(
            torch.equal(ours[0].inputs["image"][key], theirs[0].inputs["image"][key]) for key in ours[0].inputs["image"]
        )
