import pytest

from multimodal.config import Train
from multimodal.config.rules import share_problems


@pytest.mark.parametrize(
    ("batch_size", "accumulate", "tables", "processes", "fewest", "factor"),
    [
        (4, 2, 2, 2, 2, "2"),
        (3, 2, 1, 2, 3, "1.3"),
        (1, 2, 1, 1, 1, "2"),
        (2, 1, 2, 3, 1, "3"),
        (7, 4, 2, 1, 3, "1.3"),
        (9, 1, 1, 10, 9, "1.1"),
    ],
)
def test_a_batch_of_which_a_part_would_have_no_record_of_a_table_is_a_problem(
    batch_size, accumulate, tables, processes, fewest, factor
):
    (problem,) = share_problems(Train(batch_size=batch_size, accumulate=accumulate), tables, processes)
    assert problem == (
        f"a step has {fewest} records of a table, for {processes} processes with {accumulate} parts of the batch "
        f"(train.accumulate) each, and every part needs one; set train.batch_size {factor} times as high"
    )


@pytest.mark.parametrize(
    ("batch_size", "accumulate", "tables", "processes"),
    [(4, 1, 2, 2), (4, 2, 1, 2), (1, 1, 1, 1), (9, 2, 2, 2), (12, 3, 2, 2)],
)
def test_a_batch_with_a_record_for_each_part_is_none(batch_size, accumulate, tables, processes):
    assert not list(share_problems(Train(batch_size=batch_size, accumulate=accumulate), tables, processes))
