"""docs/encoders.md says what the registry has; its figures are measured by ``make encoder-table`` alone."""

from fnmatch import fnmatchcase

import numpy as np
import pytest
from support import encoder_table
from support.encoder_limits import LIMITS
from support.encoder_members import ENCODERS
from support.encoder_table import PAGE, Answer, measure, read_rows, with_rows

ROWS = read_rows(PAGE.read_text(encoding="utf-8"))


def test_every_family_has_a_row() -> None:
    assert list(ROWS) == list(ENCODERS)


def test_every_family_loads_trains_and_freezes() -> None:
    failing = {name: cells for name, cells in ROWS.items() if cells[1:3] != ("yes", "yes") or not cells[3].isdigit()}
    assert not failing


def test_limits_name_known_families_only() -> None:
    unknown = [
        f"{label}: {pattern}"
        for label, limit in LIMITS.items()
        for pattern in limit.families
        if not any(fnmatchcase(name, pattern) for name in ENCODERS)
    ]
    assert not unknown


def test_the_page_has_the_limits_as_they_are_written() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert with_rows(page, ROWS) == page, "run: make encoder-table ROWS=compact/image"


def test_an_unknown_row_is_refused() -> None:
    with pytest.raises(SystemExit, match=r"no member of encoder_members\.ENCODERS: torchvision/resnet19; there are"):
        encoder_table.main(["torchvision/resnet19"])


def test_a_difference_counts_real_tokens_only() -> None:
    mask = np.array([[True, False]])
    answer = Answer({}, np.array([[[1.0], [5.0]]]), mask)
    assert encoder_table._difference([answer], [(np.array([[[1.5], [9.0]]]), mask)]) == 0.5
    with pytest.raises(ValueError, match="not finite"):
        encoder_table._difference([answer], [(np.array([[[np.nan], [5.0]]]), mask)])
    with pytest.raises(ValueError, match="other tokens are real"):
        encoder_table._difference([answer], [(answer.tokens, ~mask)])


@pytest.mark.slow
def test_a_row_is_measured() -> None:
    modality, loads, trains, groups, fp32, fp16 = measure("transformers/* bert")
    assert (modality, loads, trains, groups) == ("text", "yes", "yes", "3")
    assert float(fp32) < 1e-4
    assert float(fp16) < 1e-1
