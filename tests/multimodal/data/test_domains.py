"""Several tables in one training: each of them in every step, of every process, as seed and step say."""

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.tiny_models import make_dataset, make_model, make_rows

from multimodal.config import ConfigError
from multimodal.config.setting import SOURCE, TARGET, UNLABELLED
from multimodal.data.dataset import RecordDataset, collate, training_batches
from multimodal.data.domains import DomainOrder, JoinedDataset, domain_order, source_factor
from multimodal.data.order import BLANK, StepSampler, interleave

Keys = list[list[tuple[int, int]]]
sizes = st.integers(1, 40)


def order(rows: list[int], unlabelled: int | None, batch_size: int, seed: int = 0) -> DomainOrder:
    return domain_order([(count, None) for count in rows], unlabelled, batch_size=batch_size, seed=seed)


def tables_of(keys: Keys, rows: list[int]) -> list[list[list[int]]]:
    """Step -> table -> its rows, counted from the table's first."""
    starts = np.cumsum([0, *rows])
    return [
        [[row - low for _, row in step if low <= row < high] for low, high in itertools.pairwise(starts)]
        for step in keys
    ]


@given(labelled=st.lists(sizes, min_size=1, max_size=2), unlabelled=sizes, batch=st.integers(2, 12))
def test_every_step_has_as_many_unlabelled_rows_as_labelled_ones_and_some_of_each_table(labelled, unlabelled, batch):
    mixed = order(labelled, unlabelled, batch)
    keys: Keys = list(StepSampler(mixed, 0, 2 * mixed.steps_per_epoch))
    for step in tables_of(keys, [*labelled, unlabelled]):
        assert [len(rows) for rows in step] == [table.batch_size for table in mixed.orders]
        assert len(step[-1]) == sum(map(len, step[:-1])) == batch


@given(rows=sizes, unlabelled=sizes, batch=st.integers(1, 12), epochs=st.integers(1, 3))
def test_no_row_of_a_table_is_seen_twice_more_than_another(rows, unlabelled, batch, epochs):
    mixed = order([rows], unlabelled, batch)
    seen = tables_of(list(StepSampler(mixed, 0, epochs * mixed.steps_per_epoch)), [rows, unlabelled])
    for table, count in enumerate((rows, unlabelled)):
        visits = np.bincount([row for step in seen for row in step[table]], minlength=count)
        assert visits.max() - visits.min() <= 1


@given(rows=sizes, unlabelled=sizes, batch=st.integers(1, 12), start=st.integers(0, 20), more=st.integers(0, 20))
def test_a_sampler_that_starts_later_gives_the_rest_of_the_whole_run(rows, unlabelled, batch, start, more):
    mixed = order([rows, rows], unlabelled, max(2, batch))
    whole = list(StepSampler(mixed, 0, start + more))
    assert list(StepSampler(mixed, start, start + more)) == whole[start:]


@given(rows=sizes, unlabelled=sizes, world=st.integers(1, 3), parts=st.integers(1, 3), more=st.integers(0, 5))
def test_every_part_of_every_process_has_every_table(rows, unlabelled, world, parts, more):
    counts, batch = [rows, 2 * rows], 2 * world * parts + 2 * more
    mixed = order(counts, unlabelled, batch)
    ranks = [list(StepSampler(mixed, 0, 2, rank=rank, world=world)) for rank in range(world)]
    whole: Keys = list(StepSampler(mixed, 0, 2))
    for step, keys in enumerate(whole):
        assert sorted(key for rank in ranks for key in rank[step]) == sorted(keys)
        for rank in ranks:
            for cut in np.array_split(np.arange(len(rank[step])), parts):
                (part,) = tables_of([[rank[step][place] for place in cut]], [*counts, unlabelled])
                assert all(part)


def test_the_order_depends_on_the_seed_and_tables_of_one_length_do_not_meet_as_pairs():
    keys = [list(StepSampler(order([30], 30, 10, seed), 0, 3)) for seed in (0, 0, 1)]
    assert keys[0] == keys[1] != keys[2]
    labelled, unlabelled = zip(*tables_of(keys[0], [30, 30]), strict=True)
    assert labelled != unlabelled


def test_a_source_record_weighs_as_much_more_as_it_is_drawn_less():
    mixed = order([50, 5000], None, 32)
    assert mixed.steps_per_epoch == 158
    assert [table.batch_size for table in mixed.orders] == [16, 16]
    assert source_factor(mixed) == 100


def test_rare_classes_of_each_table_are_drawn_more_often():
    weights = np.where(np.arange(40) < 4, 9.0, 1.0)
    mixed = domain_order([(40, weights)], 40, batch_size=10, seed=0)
    rows = np.concatenate([block[0] for epoch in range(40) for block in mixed.blocks(epoch)])
    assert abs((rows < 4).mean() - 0.5) < 0.04


def test_too_small_a_batch_is_refused():
    with pytest.raises(ConfigError, match="batch_size is 1 for 2 labelled tables; give at least one record to each"):
        order([3, 3], None, 1)


def test_rows_of_one_block_keep_their_order():
    assert interleave([np.array([5, 3, 4])]).tolist() == [5, 3, 4]


# --- records -----------------------------------------------------------------------------------------------------


@pytest.fixture
def joined(tmp_path) -> JoinedDataset:
    plain = make_dataset(make_rows(tmp_path / "own", 6), tmp_path / "own", make_model())
    parts = [RecordDataset(plain.records, plain.readers, plain.targets)]
    for folder, origin in (("there", SOURCE), ("other", UNLABELLED)):
        rows: list[dict[str, Any]] = make_rows(tmp_path / folder, 4)
        rows[2]["image"] = "../own/0.png" if origin == SOURCE else "gone.png"
        other = make_dataset(rows, tmp_path / folder, make_model())
        weights = np.full(4, 0.25) if origin == SOURCE else None
        parts.append(RecordDataset(other.records, plain.readers, plain.targets, None, weights, origin))
    return JoinedDataset(parts)


def test_records_of_joined_tables_keep_their_folder_their_weight_and_their_origin(joined):
    assert len(joined) == 14
    samples = [joined[0, row] for row in (0, 5, 6, 9, 10, 13)]
    assert [sample.row for sample in samples] == [0, 5, 6, 9, 10, 13]
    batch = collate(samples, joined.readers, joined.targets)
    assert batch.origin.tolist() == [TARGET, TARGET, SOURCE, SOURCE, UNLABELLED, UNLABELLED]
    assert batch.weights.tolist() == [1, 1, 0.25, 0.25, 1, 1]
    assert batch.to(torch.device("meta")).origin.device.type == "meta"


def test_a_record_that_cannot_be_read_names_its_own_table_and_is_of_no_domain(joined):
    for row, file in ((8, "'../own/0.png' has '..' in it"), (12, "'gone.png' does not exist")):
        sample = joined[0, row]
        assert sample.error is not None
        assert (sample.row, sample.error.row, sample.origin) == (row, row, BLANK)
        assert f"records, row 3, column image: {file}" in sample.error.reason


def test_a_blank_record_is_of_no_domain(joined):
    assert joined[0, BLANK].origin == BLANK


def test_batches_of_joined_tables_can_be_read_in_other_processes(joined):
    mixed = domain_order([(6, None), (4, None)], 4, batch_size=4, seed=0)
    alone, beside = (
        [part for step in training_batches(joined, StepSampler(mixed, 0, 3), workers=workers) for part in step]
        for workers in (0, 1)
    )
    assert [part.rows for part in alone] == [part.rows for part in beside]
    assert [part.origin.tolist() for part in alone] == [part.origin.tolist() for part in beside]
