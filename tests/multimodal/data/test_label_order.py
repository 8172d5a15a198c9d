"""Batches with several records of each label: what is in them, who gets what, and which jobs cannot have them."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.assertions import changed
from support.synthetic_products import CONFIG, OLD, make_photos, write_table

from multimodal.builders.orders import build_label_order
from multimodal.config import ConfigError, Job, parse_job
from multimodal.config.rules import group_problems
from multimodal.data.order import LabelOrder, StepSampler
from multimodal.records import read_records
from multimodal.training import fit

LABELS = np.array([0] * 9 + [1] * 4 + [2] * 2 + [-1] * 3)


def order(labels: np.ndarray = LABELS, batch_size: int = 8, group_size: int = 4, seed: int = 0) -> LabelOrder:
    return LabelOrder(labels, batch_size, seed, group_size)


def make_job(**changes) -> Job:
    return parse_job(changed(CONFIG, {"tasks.product.records_per_label": 4, **changes}))


@given(st.lists(st.integers(-1, 4), min_size=1, max_size=40), st.integers(1, 4), st.integers(2, 5), st.integers(0, 3))
def test_every_step_has_whole_groups_of_one_label_and_every_row_comes_in_every_epoch(labels, groups, size, epoch):
    numbers = np.array(labels)
    made = order(numbers, groups * size, size)
    steps = made.blocks(epoch)
    assert len(steps) == made.steps_per_epoch
    for (block,) in steps:
        assert block.shape == (groups, size)
        assert (numbers[block] == numbers[block][:, :1]).all()
    seen = np.concatenate([block.ravel() for (block,) in steps])
    assert sorted(set(seen.tolist())) == list(range(len(labels)))


def test_an_epoch_has_as_many_groups_as_its_labels_fill_and_no_row_is_twice_in_one_where_there_are_enough():
    made = order()
    assert made.steps_per_epoch == -(-(3 + 1 + 1 + 1) // 2)  # 9, 4, 2 and 3 records in groups of 4, two a step
    groups = [group.tolist() for (block,) in made.blocks(0) for group in block]
    assert all(len(set(group)) == min(4, int((LABELS[group[0]] == LABELS).sum())) for group in groups)


def test_the_order_follows_from_seed_and_epoch():
    epochs = {(seed, epoch): np.ravel(order(seed=seed).blocks(epoch)).tolist() for seed in (0, 1) for epoch in (0, 1)}
    assert len({tuple(rows) for rows in epochs.values()}) == 4
    assert np.ravel(order(seed=1).blocks(1)).tolist() == epochs[1, 1]


@pytest.mark.parametrize("start", [0, 1, 2, 3, 4, 5])
def test_a_resumed_sampler_goes_on_with_the_same_steps(start):
    whole = list(StepSampler(order(), 0, 6))
    assert list(StepSampler(order(), start, 6)) == whole[start:]


def test_processes_share_the_groups_of_a_step_without_cutting_one():
    whole = list(StepSampler(order(batch_size=16), 0, 4))
    ranks = [list(StepSampler(order(batch_size=16), 0, 4, rank=rank, world=2)) for rank in range(2)]
    for step, *parts in zip(whole, *ranks, strict=True):
        assert [len(part) for part in parts] == [8, 8]
        for part in parts:
            labels = LABELS[[row for _, row in part]].reshape(2, 4)
            assert (labels == labels[:, :1]).all()
        assert sorted(parts[0] + parts[1]) == sorted(step)


def test_rows_without_a_label_stand_together():
    rows = [{"product": label} for label in ("b", "a", None, "b", " ", 7)]
    made = build_label_order(make_job(), [read_records(rows)])
    assert made is not None
    assert made.labels.tolist() == [2, 1, -1, 2, -1, 0]
    assert (made.batch_size, made.seed, made.group_size) == (16, 0, 4)


def test_without_the_key_records_come_as_they_are():
    assert build_label_order(parse_job(CONFIG), [read_records([{"product": "a"}])]) is None
    assert not list(group_problems(parse_job(changed(CONFIG, {"train.batch_size": 7})), processes=3))


@pytest.mark.parametrize("loss", ["supcon", "arcface"])
def test_a_job_trains_on_groups(tmp_path, loss):
    rows = make_photos(tmp_path, OLD, 6, seed=0)
    job = make_job(**{"tasks.product.loss": loss, "train.batch_size": 8, "train.accumulate": 2, "train.epochs": 2})
    run = fit(job, train=write_table(tmp_path / "train.csv", rows), valid=rows, root=tmp_path, out=tmp_path / "run")
    assert run.metrics["training"]["steps"] == 2 * 4  # 6 photos of 4 products are 8 groups, two a step


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train.batch_size": 18}, r"batch_size is 18, of which 1 processes .* groups of 4 records .* multiple of 4"),
        ({"train.batch_size": 20, "train.accumulate": 3}, "set it to a multiple of 12"),
        ({"tasks.product.records_per_label": 1}, "greater than 1"),
        ({"tasks.product.imbalance": "balanced_sampler"}, "records_per_label and balanced_sampler both say which"),
        ({"tasks.other.imbalance": "balanced_sampler"}, "tasks product and other both say which records are drawn"),
        ({"tasks.other": {"type": "embedding", "records_per_label": 2}}, "tasks product and other both say which"),
        ({"tasks.product": {"records_per_label": 4}}, "records_per_label belongs to type: embedding"),
    ],
)
def test_what_cannot_be_grouped_is_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        make_job(**changes)


def test_processes_that_cannot_share_whole_groups_are_refused():
    assert not list(group_problems(make_job(), processes=4))
    (problem,) = group_problems(make_job(), processes=3)
    assert re.search("of which 3 processes with 1 parts .* set it to a multiple of 12", problem)


def test_groups_of_several_tables_are_refused():
    table = read_records([{"product": "a"}, {"product": "b"}])
    with pytest.raises(ConfigError, match=r"groups the records of one table, and 2 train .*; leave it out, or the ot"):
        build_label_order(make_job(), [table, table])
