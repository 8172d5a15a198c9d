"""Every task type, ours and a registered one, keeps the contract; what breaks it is named."""

import re
from pathlib import Path

import pytest
import torch
from support.token_tags import NAME, TokenLabels, TokenTags, TokenTagsHead

from encoders.contract import ContractError
from multimodal.model.testing import check_task_type
from multimodal.task_types import TASK_TYPES

ROOT = Path(__file__).parents[3]
BY_NAME = r"(?:\.type|kind|task_type) *(?:==|!=|in|not in) *[(\[{]?[\"'](?:{names})[\"']"
BY_CLASS = r"isinstance\([^)]*\b(?:Softmax|Sigmoid|Destandardize|PairedEmbeddings|UnitVector|Embedding)\b"


@pytest.mark.parametrize("name", TASK_TYPES.built_in)
def test_our_task_types_keep_the_contract(name):
    check_task_type(name)


def test_a_task_type_over_tokens_keeps_the_contract():
    check_task_type(NAME, inputs=["text"])


def test_the_check_leaves_the_random_state_as_it_was():
    before = torch.get_rng_state()
    check_task_type("classification", export=False)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("owner", "change", "match"),
    [
        (TokenTags, {"main_metric": "f1"}, "lists its main_metric among its metrics"),
        (TokenLabels, {"headline": "f1"}, r"computes its metrics and its headline: there is no \['f1'\]"),
        (TokenLabels, {"axes": ("b", "c")}, "has outputs of its decoding's axes"),
        (TokenLabels, {"columns": {}}, r"fills its columns: \[1\] cells"),
        (TokenLabels, {"schema": {}}, r"responds with the keys of its schema: \['tags'\]"),
        (TokenTagsHead, {"loss": lambda self, outputs, target: outputs.sum()}, "one finite number per record"),
        (TokenTags, {"example_cells": (["a"],), "head_arguments": None}, "gives head_arguments that are JSON"),
    ],
)
def test_a_broken_promise_is_named(monkeypatch, owner, change, match):
    for key, value in change.items():
        monkeypatch.setattr(owner, key, value)
    with pytest.raises(ContractError, match=match):
        check_task_type(NAME, inputs=["text"], export=False)


def test_only_the_entries_know_a_task_type_by_name_or_by_class():
    pattern = re.compile(BY_NAME.replace("{names}", "|".join(TASK_TYPES.built_in)) + "|" + BY_CLASS)
    found = [
        f"{path.relative_to(ROOT)}: {line.strip()}"
        for package in ("multimodal", "export")
        for path in sorted((ROOT / package).rglob("*.py"))
        if path.parent.name != "task_types"
        for line in path.read_text(encoding="utf-8").splitlines()
        if pattern.search(line)
    ]
    assert not found, "\n".join(found)
