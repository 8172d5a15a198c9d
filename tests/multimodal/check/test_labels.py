"""Labels that are probably mistakes, as `check` and `train` tell them."""

from typing import Any

import pytest

from multimodal.check.labels import label_problems
from multimodal.check.problems import Problem, Split, first_of_each
from multimodal.config import parse_job
from multimodal.records import read_records


def problems(cells: list[Any], kind: str = "classification", test: list[Any] | None = None) -> list[Problem]:
    job = parse_job({"inputs": {"text": {"encoder": "compact/text"}}, "tasks": {"y": {"type": kind}}})
    tables = {"train": cells} | ({} if test is None else {"test": test})
    splits = [Split(name, f"{name}.csv", read_records([{"y": cell} for cell in of])) for name, of in tables.items()]
    return list(label_problems(job, splits))


def messages(*args: Any, **kwargs: Any) -> list[str]:
    return [problem.message for problem in problems(*args, **kwargs)]


@pytest.mark.parametrize("kind", ["classification", "multilabel", "embedding"])
@pytest.mark.parametrize(
    ("label", "other", "shown", "beside"),
    [
        ("Mango", "mango", "'Mango'", "'mango'"),
        ("man\u00adgo", "mango", r"'man\xadgo'", "'mango'"),
        ("man\ufeffgo", "mango", r"'man\ufeffgo'", "'mango'"),
        ("ripe\u202fmango", "ripe mango", r"'ripe\u202fmango'", "'ripe mango'"),
        ("m\u0430ngo", "mango", r"'m\u0430ngo'", "'mango'"),
        ("2.00", "2", "'2.00'", "'2'"),
        ("+5", "5", "'+5'", "'5'"),
    ],
)
def test_labels_that_read_the_same_are_told_with_both_spellings_and_counts(kind, label, other, shown, beside):
    (message,) = messages([label] * 3 + [other] * 5 + ["fig"] * 4, kind)
    assert f"{shown} (3 records)" in message
    assert f"{beside} (5 records)" in message
    assert message.endswith("but they are labels of their own; write them alike")


@pytest.mark.parametrize(
    ("composed", "shown", "other"),
    [
        ("Müsli", r"'M\xfcsli'", r"'Mu\u0308sli'"),
        ("ñora", r"'\xf1ora'", r"'n\u0303ora'"),
        ("Ångström", r"'\xc5ngstr\xf6m'", r"'A\u030angstro\u0308m'"),
        ("한", r"'\ud55c'", r"'\u1112\u1161\u11ab'"),
        ("ş", r"'\u015f'", r"'s\u0327'"),
    ],
)
@pytest.mark.parametrize("kind", ["classification", "multilabel"])
def test_forms_that_are_joined_are_told(kind, composed, shown, other):
    import unicodedata

    decomposed = unicodedata.normalize("NFD", composed)
    (message,) = messages([composed] * 3 + [decomposed] * 2 + ["tea"] * 2, kind)
    assert message.startswith(f"{shown} (3 records) and {other} (2 records) are one label here")
    assert messages([decomposed] * 5 + ["tea"] * 2, kind) == []  # nothing is joined


@pytest.mark.parametrize("cell", [["Mu\u0308sli", "tea"], ("Mu\u0308sli",), "tea;Mu\u0308sli", "Mu\u0308sli ; tea"])
def test_forms_in_sets_of_labels_are_joined_and_told(cell):
    (message,) = messages([cell, "Müsli;tea", ["Müsli"], "tea"], "multilabel")
    assert r"'M\xfcsli' (2 records) and 'Mu\u0308sli' (1 record) are one label here" in message


def test_spellings_of_other_tables_that_train_are_counted_too():
    job = parse_job({"inputs": {"text": {"encoder": "compact/text"}}, "tasks": {"y": {}}})
    tables = {"train": ["fig", "fig", "nut", "nut"], "source": ["Fig"] * 3, "held_out": ["FIG"]}
    splits = [Split(name, name, read_records([{"y": cell} for cell in cells])) for name, cells in tables.items()]
    told = [problem.message for problem in label_problems(job, splits)]
    assert told[0].startswith("'FIG' (1 record) reads the same as 'Fig' (3 records) and 'fig' (2 records)")


@pytest.mark.parametrize(
    ("label", "near"),
    [
        ("bananna", "banana"),
        ("banan", "banana"),
        ("oragne", "orange"),
        ("green te", "green tea"),
        ("oranges", "orange"),
    ],
)
def test_a_single_label_near_a_frequent_one_is_told_first(label, near):
    rare = ["quince", "sloe", "medlar", "rowan", "kumquat", "damson", "bilberry"]
    cells = ["banana"] * 9 + ["orange"] * 9 + ["green tea"] * 9 + [*rare, label]
    found = [problem.message for problem in first_of_each(problems(cells), 3)]
    assert (
        f"a single training record has the label {label!r}, and 9 have {near!r}: if that was meant, corre" in found[0]
    )
    assert found[-1] == "and 4 more of this column; --all shows them"


def test_many_problems_of_one_kind_hide_none_of_another():
    cells = [spelling for letter in "abcdef" for spelling in (letter * 3, letter.upper() * 3)] * 2
    found = [problem.message for problem in first_of_each(problems([*cells, "banana", "banana", "bananna"]), 3)]
    assert sum("reads the same" in message for message in found) == 3
    assert any("'bananna', and 2 have 'banana'" in message for message in found)


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        (
            ["new,sale", "new", "sale"],
            "1 label holds ',', such as 'new,sale' (1 record in all); the labels of a record",
        ),
        (["new|sale", "new|sale", "new"], "1 label holds '|', such as 'new|sale' (2 records in all)"),
        (["a/b", "b/c", "a"], "2 labels hold '/', such as 'a/b' (2 records in all)"),
        (['["new", "sale"]', "new"], 'a list that is written as text is one label, such as \'["new", "sale"]\''),
        (["['a', 'b']", "a", "b"], "a list that is written as text is one label"),
        (["{'a', 'b'}", "a", "b"], "a list that is written as text is one label"),
        (["new\tsale", "new", "sale"], r"1 label holds '\t', such as 'new\tsale'"),
        ([["new,sale"], "new", "sale"], "1 label holds ',', such as 'new,sale'"),
    ],
)
def test_labels_that_are_probably_several_are_told(cells, message):
    found = [problem for problem in problems(cells * 2, "multilabel") if problem.kind == "separator"]
    assert len(found) == 1
    count = message.replace("(1 record in", "(2 records in").replace("'new|sale' (2", "'new|sale' (4")
    assert found[0].message.startswith(count.replace("'a/b' (2", "'a/b' (4"))
    assert found[0].message.endswith("the labels of a record are separated by ';' alone")


@pytest.mark.parametrize("label", ["new;sale", '["new", "sale"]', "a; b; c", "['x']", ";x"])
def test_a_class_that_is_probably_a_set_of_labels_is_told(label):
    found = [message for message in messages([label, label, "new", "new"]) if "set type: multilabel" in message]
    assert len(found) == 1
    assert messages(["new;sale", "sale"] * 2, "multilabel") == []


def test_labels_of_an_evaluation_table_that_are_near_come_first_and_show_how_they_differ():
    found = messages(["fig"] * 3 + ["nut"] * 3, test=["apple", "banana", "cherry", "f\u200big", "nutt", "kiwi"])
    assert r"'f\u200big', which no record of train.csv has; it is counted as wrong, or did you mean 'fig'?" in found[0]
    assert "'nutt'" in found[1]
    assert "did you mean" not in "".join(found[2:])


def test_labels_that_a_zero_shot_head_lacks_are_told():
    zero_shot = {"labels": ["fig", "nut"]}
    inputs = {"image": {"encoder": "compact/image"}}
    job = parse_job({"inputs": inputs, "tasks": {"y": {"head": "zero_shot", "zero_shot": zero_shot}}})
    splits = [Split(name, f"{name}.csv", read_records([{"y": "figg"}, {"y": "nut"}])) for name in ("train", "test")]
    assert [problem.message for problem in label_problems(job, splits)] == [
        "1 record has the label 'figg', which no label of tasks.y.zero_shot has; it is counted as wrong, or did you "
        "mean 'fig'?"
    ]


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ([3, 3, 3], "has 1 distinct numbers (3.0); regression needs at least two"),
        ([1e303, 2, 3], "has the number 1e+303, and beyond 1e+300 floats"),
        ([1e-322, 2e-322], "which differ by less than floats can divide by"),
        ([10**500, 2, 3], "a number of 501 digits is not a finite number as floats have them"),
        (["-1e309", 2, 3], "'-1e309' is not a finite number"),
    ],
)
def test_numbers_of_which_nothing_can_be_learned_are_told_with_the_true_reason(cells, message):
    (problem,) = problems(cells, "regression")
    assert problem.severity == "error"
    assert message in problem.message


@pytest.mark.parametrize("unit", [1e-300, 1e-150, 1e30, 1e150, 1e299])
def test_numbers_that_can_be_standardised_are_no_problem(unit):
    assert problems([1 * unit, 2 * unit, 2 * unit], "regression") == []
