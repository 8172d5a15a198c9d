"""The tests themselves: none waits for a time, none has a tolerance of its own; and the programs beside them."""

import ast
import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
ROOT = TESTS.parent
OURS, PROGRAMS = ("encoders", "fusion", "multimodal", "export"), ("benchmarks", "examples")
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


def imported(path: Path) -> Iterator[tuple[str, str]]:
    """Module and name of each import from our packages, also inside functions."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and str(node.module).partition(".")[0] in OURS:
            yield from ((str(node.module), alias.name) for alias in node.names)


@pytest.mark.parametrize(
    "path", [path for folder in PROGRAMS for path in sorted((ROOT / folder).rglob("*.py"))], ids=lambda path: path.name
)
def test_a_program_that_no_test_runs_imports_what_is_there(path: Path) -> None:
    found = list(imported(path))
    assert [entry for entry in found if not hasattr(importlib.import_module(entry[0]), entry[1])] == []
