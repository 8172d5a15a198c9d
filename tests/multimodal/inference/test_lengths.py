"""Rounding lengths up to few."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from multimodal.inference.batching import rounded_length


@pytest.mark.parametrize(("sizes", "shortest", "most"), [(4, 1, 1.25), (2, 8, 1.5)])
@given(length=st.integers(1, 4000), longest=st.integers(1, 4000))
def test_a_length_is_no_shorter_and_padded_by_less_than_its_part_of_an_octave(sizes, shortest, most, length, longest):
    rounded = rounded_length(length, longest, sizes=sizes, shortest=shortest)
    assert length <= rounded <= max(length, longest)
    assert rounded <= max(shortest, most * length)


@pytest.mark.parametrize(("sizes", "few"), [(4, 39), (2, 20)])
def test_lengths_are_few(sizes, few):
    assert len({rounded_length(length, 10**6, sizes=sizes) for length in range(1, 1001)}) <= few


def test_two_lengths_an_octave_are_powers_of_two_and_the_middles_between_them():
    expected = [8, 12, 16, 24, 32, 48, 64, 96, 128]
    assert sorted({rounded_length(length, 10**6, sizes=2, shortest=8) for length in range(1, 129)}) == expected
