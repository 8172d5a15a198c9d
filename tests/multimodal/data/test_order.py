"""Tests of the records of each training step."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from multimodal.data.order import BLANK, Order, StepSampler

Keys = list[list[tuple[int, int]]]


def test_the_rows_of_an_epoch_depend_on_seed_and_epoch_alone():
    rows = {(seed, epoch): Order(50, 8, seed).rows(epoch).tolist() for seed in (0, 1) for epoch in (0, 1)}
    assert len({tuple(order) for order in rows.values()}) == 4
    np.random.seed(5)
    torch.manual_seed(5)
    order = Order(50, 8, 1)
    order.rows(7)
    assert order.rows(1).tolist() == rows[1, 1]


def test_an_epoch_holds_every_row_once():
    assert sorted(Order(23, 5, seed=1).rows(4).tolist()) == list(range(23))


sizes = st.integers(1, 40)


@given(num_rows=sizes, batch_size=sizes, epochs=st.integers(1, 3))
def test_batches_of_an_epoch_differ_by_at_most_one_record(num_rows, batch_size, epochs):
    order = Order(num_rows, batch_size, seed=0)
    steps = order.steps_per_epoch
    keys = list(StepSampler(order, 0, epochs * steps))
    assert len(keys) == epochs * steps
    for epoch in range(epochs):
        batches = keys[epoch * steps : (epoch + 1) * steps]
        lengths = {len(batch) for batch in batches}
        assert max(lengths) - min(lengths) <= 1
        assert max(lengths) <= batch_size
        assert sorted(batch for keys in batches for batch in keys) == [(epoch, row) for row in range(num_rows)]


@given(num_rows=sizes, batch_size=sizes, start=st.integers(0, 60), more=st.integers(0, 60))
def test_a_sampler_that_starts_later_gives_the_rest_of_the_whole_run(num_rows, batch_size, start, more):
    order = Order(num_rows, batch_size, seed=3)
    whole = list(StepSampler(order, 0, start + more))
    rest = StepSampler(order, start, start + more)
    assert len(rest) == more
    assert list(rest) == whole[start:]


@given(num_rows=sizes, batch_size=sizes, world=st.integers(1, 5))
def test_the_processes_share_each_batch_among_them(num_rows, batch_size, world):
    order = Order(num_rows, batch_size, seed=3)
    stop = 2 * order.steps_per_epoch
    whole: Keys = list(StepSampler(order, 0, stop))
    parts: list[Keys] = [list(StepSampler(order, 0, stop, rank=rank, world=world)) for rank in range(world)]
    for step, batch in enumerate(whole):
        shares = [part[step] for part in parts]
        assert all(shares)
        real = [key for share in shares for key in share if key[1] != BLANK]
        assert sorted(real) == sorted(batch)
        # a share is either real or one blank record
        assert all(share == [(batch[0][0], BLANK)] for share in shares if any(row == BLANK for _, row in share))


def test_a_process_without_a_record_left_gets_a_blank_one():
    (keys,) = StepSampler(Order(2, 8, seed=0), 0, 1, rank=2, world=3)
    assert keys == [(0, BLANK)]


def test_balanced_weights_draw_rare_classes_as_often_as_common_ones():
    labels = np.array([0] * 90 + [1] * 10)
    weights = 1.0 / np.bincount(labels)[labels]
    order = Order(100, 10, seed=0, weights=weights)
    drawn = np.concatenate([order.rows(epoch) for epoch in range(40)])
    assert len(order.rows(0)) == 100
    # 4000 draws at one half: 0.5 +- 0.008; the bound is five deviations away
    assert abs(labels[drawn].mean() - 0.5) < 0.04
    assert order.rows(3).tolist() == order.rows(3).tolist()
    assert order.rows(3).tolist() != order.rows(4).tolist()


def test_a_row_of_weight_zero_is_never_drawn():
    order = Order(4, 2, seed=0, weights=np.array([1.0, 0.0, 3.0, 1.0]))
    assert 1 not in np.concatenate([order.rows(epoch) for epoch in range(30)])
