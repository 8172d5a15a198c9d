import io
import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from typing import TextIO

import numpy as np
import pytest

from multimodal.console import (
    first_errors,
    open_streams,
    print_error,
    print_line,
    progress_bar,
    progress_shown,
    show_metrics,
    show_table,
)
from multimodal.metrics.class_tables import classification_table

LONG = "word " * 100 + "end"


def test_lines_go_to_stdout_and_errors_to_stderr_as_they_are(capsys):
    print_line("[bold]50%[/bold] größe")
    print_error("error: [red]")
    assert capsys.readouterr() == ("[bold]50%[/bold] größe\n", "error: [red]\n")


@pytest.mark.parametrize(
    ("messages", "printed"),
    [
        ([], []),
        (["a.csv, row 1: gone"], ["a.csv, row 1: gone"]),
        ([f"a.csv, row {row}: '{row}.png' is gone" for row in range(1, 4)], [1, 2, 3]),
        ([f"a.csv, row {row}: '{row}.png' is gone" for row in range(1, 10)], [1, 2, "and 7 more as a.csv, row 1"]),
        (["row 1: x is gone", "row 2: y is gone", "row 3: x is gone", "row 4: x is gone"], None),
        (["row 1, column a: no", "row 1, column b: no", "row 2, column a: no"], None),
    ],
)
def test_the_first_errors_of_each_kind_are_printed_and_the_others_counted(messages, printed, capsys):
    with first_errors(2, "see out.csv") as take:
        for message in messages:
            take(message)
    lines = capsys.readouterr().err.splitlines()
    expected = {int: lambda row: f"a.csv, row {row}: '{row}.png' is gone", str: str}
    wanted = messages if printed is None else [expected[type(entry)](entry) for entry in printed]
    assert [line.replace("of the same kind as", "as").removesuffix("; see out.csv") for line in lines] == wanted


def test_errors_are_counted_where_the_reading_ends_early_too(capsys):
    with suppress(KeyboardInterrupt), first_errors(1, "see out.csv") as take:
        for row in range(5):
            take(f"row {row}: gone")
        raise KeyboardInterrupt
    assert capsys.readouterr().err == "row 0: gone\nand 4 more of the same kind as row 0; see out.csv\n"


def forget_handlers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Logging that nobody has configured, as in a new process; pytest's own handlers come before a test begins."""
    monkeypatch.setattr(logging.root, "handlers", [])


@progress_shown()
def log_lines() -> None:
    logger = logging.getLogger("multimodal.any")
    logger.debug("detail")
    logger.info("[bold]50%[/bold] größe")
    logger.warning("slow")
    logging.getLogger("encoders.any").error("broken")


def test_commands_show_progress_on_stdout_and_warnings_with_their_level_on_stderr(capsys):
    with progress_shown(always=True):
        log_lines()
    assert capsys.readouterr() == ("[bold]50%[/bold] größe\n", "warning: slow\nerror: broken\n")
    log_lines()
    assert capsys.readouterr() == ("", "")


def test_on_a_terminal_progress_is_shown_by_itself(capsys, monkeypatch):
    forget_handlers(monkeypatch)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    log_lines()
    assert capsys.readouterr() == ("[bold]50%[/bold] größe\n", "warning: slow\nerror: broken\n")
    assert logging.getLogger("multimodal").level == logging.NOTSET


def test_in_a_notebook_progress_is_shown_by_itself(capsys, monkeypatch):
    forget_handlers(monkeypatch)
    monkeypatch.setitem(sys.modules, "ipykernel", sys)
    log_lines()
    assert capsys.readouterr().out == "[bold]50%[/bold] größe\n"


def test_where_nobody_watches_warnings_alone_are_shown(capsys, monkeypatch):
    forget_handlers(monkeypatch)
    log_lines()
    assert capsys.readouterr() == ("", "slow\nbroken\n")


@contextmanager
def program_handler(monkeypatch: pytest.MonkeyPatch, name: str, level: int) -> Iterator[list[str]]:
    """Messages that the only handler gets, the program's own at a logger, which has this level."""
    forget_handlers(monkeypatch)
    messages: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: messages.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger(name)
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(level)
    yield messages
    logger.setLevel(before)
    logger.removeHandler(handler)


@pytest.mark.parametrize(
    ("name", "level", "shown", "got"),
    [
        ("root", logging.WARNING, True, ["slow", "broken"]),  # basicConfig(), and what Colab has done already
        ("root", logging.ERROR, True, ["broken"]),
        ("root", logging.INFO, False, ["[bold]50%[/bold] größe", "slow", "broken"]),
        ("root", logging.DEBUG, False, ["detail", "[bold]50%[/bold] größe", "slow", "broken"]),
        ("multimodal", logging.WARNING, False, ["slow"]),
        ("multimodal", logging.INFO, False, ["[bold]50%[/bold] größe", "slow"]),
        ("multimodal", logging.ERROR, False, []),
    ],
)
def test_a_person_who_watches_sees_progress_once_whatever_the_program_has_configured(
    name, level, shown, got, capsys, monkeypatch
):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    with program_handler(monkeypatch, name, level) as messages:
        log_lines()
    assert capsys.readouterr().out == ("[bold]50%[/bold] größe\n" if shown else "")
    assert messages == got
    assert logging.getLogger("multimodal").propagate


@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("configured", [False, True])
def test_functions_that_call_each_other_show_a_line_once(depth, configured, capsys, monkeypatch):
    forget_handlers(monkeypatch)
    monkeypatch.setattr(sys, "ps1", ">>> ", raising=False)  # an interpreter that is typed to
    call = log_lines
    for _ in range(depth):
        call = progress_shown()(call)
    with program_handler(monkeypatch, "root", logging.WARNING) if configured else nullcontext():
        call()
    assert capsys.readouterr().out == "[bold]50%[/bold] größe\n"


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


@pytest.mark.parametrize("columns", [1, 7, 15])
def test_on_a_terminal_without_room_for_a_table_a_row_is_a_line_and_nothing_is_cut(capsys, monkeypatch, columns):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", str(columns))
    show_table(("name", "value"), [(LONG, 0.5)], title="Title")
    assert capsys.readouterr().out == f"name\tvalue\n{LONG}\t0.5\n"


def test_on_a_terminal_a_long_word_is_folded_not_cut(capsys, monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setenv("COLUMNS", "30")
    show_table(("name", "value"), [("x" * 100, 0.5)])
    assert capsys.readouterr().out.count("x") == 100


ENCODINGS = ["latin-1", "cp437", "koi8-r", "shift_jis", "cp1250", "ascii", "utf-8"]
TEXTS = ["Ελιές", "crème brûlée", "パン", "🍞 bread", "caf\udce9.png"]  # the last is a file name that is not UTF-8


def narrow(encoding: str) -> io.TextIOWrapper:
    """A stream as Python opens it for a file or a pipe in such a locale."""
    return io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="strict")


def written(stream: io.TextIOWrapper) -> str:
    stream.flush()
    assert isinstance(stream.buffer, io.BytesIO)
    return stream.buffer.getvalue().decode(stream.encoding)


def shown(text: str, encoding: str) -> str:
    return text.encode(encoding, "backslashreplace").decode(encoding)


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("text", TEXTS)
def test_what_the_encoding_lacks_is_escaped_and_the_rest_is_as_it_is(monkeypatch, encoding, text):
    for name, write in {"stdout": print_line, "stderr": print_error}.items():
        stream = narrow(encoding)
        monkeypatch.setattr(sys, name, stream)
        write(f"{text}, 0.5")
        assert written(stream) == f"{shown(text, encoding)}, 0.5\n"


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("is_terminal", [True, False])
def test_a_table_shows_every_cell_in_any_encoding(monkeypatch, encoding, is_terminal):
    stream = narrow(encoding)
    monkeypatch.setattr(stream, "isatty", lambda: is_terminal, raising=False)
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "dumb")
    show_table(("task", TEXTS[0]), [("label", text) for text in TEXTS], title=TEXTS[1])
    for text in TEXTS[0], *TEXTS[2:]:
        assert shown(text, encoding) in written(stream)


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("is_terminal", [True, False])
def test_a_progress_bar_does_not_stop_the_work_in_any_encoding(monkeypatch, encoding, is_terminal):
    stream = narrow(encoding)
    monkeypatch.setattr(stream, "isatty", lambda: is_terminal, raising=False)
    monkeypatch.setattr(sys, "stderr", stream)
    with progress_bar("パン", every_seconds=0.0) as advance:
        advance(1, 2)
    assert shown("パン", encoding) in written(stream)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_logs_and_other_people_s_lines_are_escaped_too_once_the_streams_are_open(monkeypatch, encoding):
    stream = narrow(encoding)
    monkeypatch.setattr(sys, "stderr", stream)
    open_streams()
    logger, handler = logging.Logger("any"), logging.StreamHandler(sys.stderr)
    logger.addHandler(handler)
    for text in TEXTS:
        logger.warning(text)
    assert written(stream).splitlines() == [shown(text, encoding) for text in TEXTS]


@pytest.mark.parametrize("closed", ["stdout", "stderr"])
def test_a_process_without_a_stream_says_its_lines_to_nobody(monkeypatch, closed):
    monkeypatch.setattr(sys, closed, None)
    open_streams()
    print_line("a")
    print_error("b")
    show_table(("c",), [("d",)])
    getattr(sys, closed).close()


@pytest.fixture
def broken_pipe() -> Iterator[TextIO]:
    """The end of a pipe whose reader has gone."""
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w", encoding="utf-8") as stream:
        yield stream


WRITES: dict[str, Callable[[], None]] = {
    "a line": lambda: print_line("a"),
    "a table": lambda: show_table(("a",), [("b",)]),
    "metrics": lambda: show_metrics(metrics()),
    "an error": lambda: print_error("a"),
    "progress": progress_shown(always=True)(lambda: logging.getLogger("multimodal.any").info("a")),
    "more than a buffer": lambda: print_line("a" * 1_000_000),
}


@pytest.mark.parametrize("what", WRITES)
def test_where_the_reader_has_gone_the_process_ends_quietly(monkeypatch, broken_pipe, what):
    monkeypatch.setattr(sys, "stdout", broken_pipe)
    monkeypatch.setattr(sys, "stderr", broken_pipe)
    with pytest.raises(SystemExit, match="1"):
        WRITES[what]()
    broken_pipe.write("what Python flushes at its end goes nowhere")
    broken_pipe.flush()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no device that is always full")
def test_a_stream_that_cannot_be_written_is_named(monkeypatch):
    with open("/dev/full", "wb", buffering=0) as full:
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(full, write_through=True))
        with pytest.raises(OSError, match="No space left on device: '/dev/full'"):
            print_line("a")


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


def test_scores_of_one_of_two_classes_name_it(capsys):
    score = {"value": 0.5, "low": 0.25, "high": 0.75}
    spam = {"n": 20, "accuracy": score, "absent": [], "positive": "spam", "precision": score, "f1": score}
    show_metrics({"tasks": {"kind": spam}, "modalities": {"text": {"kind": spam}}})
    assert capsys.readouterr().out.splitlines()[1:4] == [
        "kind\taccuracy\t0.5\t0.25 to 0.75\t20",
        "kind\tprecision of spam\t0.5\t0.25 to 0.75\t20",
        "kind\tf1 of spam\t0.5\t0.25 to 0.75\t20",
    ]


def test_labels_are_a_line_each_and_the_largest_confusions_follow(capsys):
    targets, predicted = np.array([0, 0, 0, 1, 1, 2]), np.array([0, 1, 1, 1, 0, 2])
    details = {"color": classification_table(targets, predicted, ("blue", "green", "red"))}
    show_metrics({**metrics(), "details": details})
    assert capsys.readouterr().out.splitlines()[8:] == [
        "label\trecords\tpredicted\tprecision\trecall\tF1",
        "blue\t3\t2\t0.5\t0.3333\t0.4",
        "green\t2\t3\t0.3333\t0.5\t0.4",
        "red\t1\t1\t1\t1\t1",
        "",
        "label\tpredicted\trecords",
        "blue\tgreen\t2",
        "green\tblue\t1",
    ]


def test_of_many_labels_those_with_the_lowest_f1_are_shown(capsys):
    targets = np.arange(60) % 30
    predicted = np.where(targets < 3, targets + 1, targets)
    details = {"color": classification_table(targets, predicted, [f"label {number:02}" for number in range(30)])}
    show_metrics({**metrics(), "details": details})
    labels = [line.partition("\t")[0] for line in capsys.readouterr().out.splitlines()[9:29]]
    assert labels[:4] == ["label 00", "label 01", "label 02", "label 03"]
    assert len(set(labels)) == 20


def test_calibration_is_a_line_for_each_task_that_has_probabilities(capsys):
    after = {"error": 0.01234, "log_loss": None, "bins": {}}
    calibration = {"color": {"temperature": 0.60123, "records": 20, "before": after, "after": after}}
    show_metrics({**metrics(), "calibration": calibration})
    assert capsys.readouterr().out.splitlines()[-2:] == [
        "task\ttemperature\tcalibration error\tlog loss\trecords",
        "color\t0.601\t0.01234\t-\t20",
    ]
