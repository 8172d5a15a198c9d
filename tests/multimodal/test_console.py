import sys

import pytest

from multimodal.console import complain, say, show_metrics, show_table

LONG = "word " * 100 + "end"


def test_lines_go_to_stdout_and_complaints_to_stderr_as_they_are(capsys):
    say("[bold]50%[/bold] größe")
    complain("error: [red]")
    assert capsys.readouterr() == ("[bold]50%[/bold] größe\n", "error: [red]\n")


def test_where_stdout_is_no_terminal_a_table_is_a_tab_separated_line_a_row(capsys):
    show_table(("name", "value"), [("a", 1), (LONG, None), ("[red]x[/red]", 0.5)], title="Title")
    assert capsys.readouterr().out == f"name\tvalue\na\t1\n{LONG}\tNone\n[red]x[/red]\t0.5\n"


@pytest.mark.parametrize("broken", ["two\nlines", "two\r\nlines", "a\ttab", "a\x0bb", "a\u2028b"])
def test_a_cell_that_would_break_the_line_is_quoted(capsys, broken):
    show_table(("name", "value"), [("a", broken), ("b", "c")])
    lines = capsys.readouterr().out.split("\n")
    assert [line.count("\t") for line in lines] == [1, 1, 1, 0]
    assert len("".join(lines).splitlines()) == 1
    assert lines[1] == f"a\t{broken.encode('unicode_escape').decode()}"


def test_a_table_without_rows_is_its_header(capsys):
    show_table(("name", "value"), [])
    assert capsys.readouterr().out == "name\tvalue\n"


def test_on_a_terminal_a_table_is_drawn_and_cells_are_not_markup(capsys, monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setenv("COLUMNS", "80")
    show_table(("name", "value"), [("[red]x[/red]", 0.5)], title="Title")
    out = capsys.readouterr().out
    assert "Title" in out
    assert "[red]x[/red]" in out
    assert "\t" not in out


def metrics() -> dict:
    color = {"n": 20, "accuracy": {"value": 0.91234, "low": 0.8, "high": 1.0}, "absent": ["red"]}
    price = {"n": 0, "r2": {"value": None, "low": None, "high": None}}
    empty = {"n": 0, "accuracy": {"value": None, "low": None, "high": None}}
    return {
        "tasks": {"color": color, "price": price},
        "modalities": {"image+text": {"color": color, "price": price}, "text": {"color": empty, "price": {"n": 0}}},
    }


def test_metrics_are_a_line_each_and_then_a_line_for_each_combination_of_inputs(capsys):
    show_metrics(metrics())
    assert capsys.readouterr().out.splitlines() == [
        "task\tmetric\tvalue\t95% interval\trecords",
        "color\taccuracy\t0.9123\t0.8 to 1\t20",
        "price\tr2\t-\t-\t0",
        "",
        "inputs shown\tcolor\tprice",
        "image+text\t0.9123 (20)\t- (0)",
        "text\t- (0)\t-",
    ]


def test_calibration_is_a_line_for_each_task_that_has_probabilities(capsys):
    after = {"error": 0.01234, "log_loss": None, "bins": {}}
    calibration = {"color": {"temperature": 0.60123, "records": 20, "before": after, "after": after}}
    show_metrics({**metrics(), "calibration": calibration})
    assert capsys.readouterr().out.splitlines()[-2:] == [
        "task\ttemperature\tcalibration error\tlog loss\trecords",
        "color\t0.601\t0.01234\t-\t20",
    ]
