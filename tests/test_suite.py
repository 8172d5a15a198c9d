"""The tests themselves: none waits for a time, none has a tolerance of its own."""

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
WAITING, TABLE = TESTS / "support" / "waiting.py", TESTS / "support" / "assertions.py"


@pytest.mark.parametrize(
    ("pattern", "instead"),
    [
        (r"time\.sleep\(", "wait_until of support.waiting, or an event"),
        (r"\b(?:rtol|atol|abs|rel)=[\d.]", "a name of the table in support.assertions"),
    ],
)
def test_no_test_sleeps_or_has_a_tolerance_of_its_own(pattern: str, instead: str) -> None:
    files = [path for path in TESTS.rglob("*.py") if path not in (WAITING, TABLE)]
    found = [str(path.relative_to(TESTS)) for path in files if re.search(pattern, path.read_text("utf-8"))]
    assert found == [], f"use {instead}"
