"""Output of commands: tables and lines for people on a terminal, tab-separated lines for everything else."""

import io
import logging
import os
import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import product
from typing import Any, TextIO

_BREAKS = re.compile("[\t\n\r\x0b\x0c\x1c-\x1e\x85\u2028\u2029]")  # tab, and where str.splitlines splits
_VALUES = re.compile(r"'[^']*'|\d+")
_NARROWEST = 8  # columns of a terminal for one of a table, of which its frame takes three


def open_streams() -> None:
    """Makes stdout and stderr escape what their encoding does not have, and opens them where they are closed."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by who started the process, or pythonw
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115, open as long as the process
        _escaping(getattr(sys, name))


def print_line(line: str = "") -> None:
    """Prints a line on stdout, as it is."""
    _write(sys.stdout, line)


def print_error(line: str) -> None:
    """Prints a line on stderr."""
    _write(sys.stderr, line)


@contextmanager
def first_errors(most: int, others: str) -> Iterator[Callable[[str], None]]:
    """Takes messages: prints the first of each kind on stderr, and at the end how many more there were.

    Args:
        most: of a kind, whose messages differ in nothing but numbers and quoted values.
        others: where the rest is found.
    """
    counts, first, last = Counter[str](), dict[str, str](), dict[str, str]()

    def take(message: str) -> None:
        kind = _VALUES.sub("", message)
        counts[kind] += 1
        first.setdefault(kind, message)
        last[kind] = message
        if counts[kind] <= most:
            print_error(message)

    try:
        yield take
    finally:
        for kind, count in counts.items():
            if count == most + 1:
                print_error(last[kind])
            elif count > most:
                place = first[kind].partition(": ")[0]
                print_error(f"and {count - most} more of the same kind as {place}; {others}")


def _write(stream: TextIO, line: str) -> None:
    """Writes at once; ends the process quietly where the reader of a pipe, such as ``head``, has gone.

    Raises:
        OSError: if the line cannot be written; names the stream.
    """
    try:
        _escaping(stream).write(f"{line}\n")
        stream.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())  # what is still buffered is flushed at the end
        sys.exit(1)
    except OSError as error:
        raise OSError(error.errno, error.strerror, getattr(stream, "name", "the output")) from error


def _escaping(stream: TextIO) -> TextIO:
    """The stream, which from now on writes a character that its encoding does not have as an escape."""
    if isinstance(stream, io.TextIOWrapper) and stream.errors != "backslashreplace":
        stream.reconfigure(errors="backslashreplace")
    return stream


class ConsoleHandler(logging.Handler):
    """Progress on stdout as plain lines; warnings and errors on stderr, which begin with their level."""

    def format(self, record: logging.LogRecord) -> str:
        """The line of a record."""
        line = super().format(record)
        return line if record.levelno < logging.WARNING else f"{record.levelname.lower()}: {line}"

    def emit(self, record: logging.LogRecord) -> None:
        """Writes a record at once."""
        write = print_line if record.levelno < logging.WARNING else print_error
        write(self.format(record))


class _Forward(logging.Handler):
    """Passes a record on to the handlers that the program has configured."""

    def emit(self, record: logging.LogRecord) -> None:
        logging.root.handle(record)


@contextmanager
def progress_shown(*, always: bool = False) -> Iterator[None]:
    """Shows inside the block what our packages log: the progress of ``multimodal``, and the warnings of all.

    For commands, and as a decorator for the public functions that take long. Where the program has configured
    logging, its handlers get the warnings, and progress is shown only if they would not get it; where it has
    configured ``multimodal`` itself, nothing is changed.

    Args:
        always: also where the program has configured logging, or nobody watches; else only on a terminal and in a
            notebook.
    """
    ours = logging.getLogger("multimodal")
    if not always and (not _is_watched() or _is_set_up(ours)):
        yield
        return
    handlers: list[logging.Handler] = [ConsoleHandler()]
    loggers = [logging.getLogger(name) for name in ("encoders", "fusion", "multimodal", "export")]
    level, propagate = ours.level, ours.propagate
    if not always and ours.hasHandlers():  # the program's own, which show no progress
        handlers[0].addFilter(lambda record: record.levelno < logging.WARNING)
        handlers.append(_Forward(max(logging.WARNING, ours.getEffectiveLevel())))
        loggers, ours.propagate = [ours], False
    for logger, handler in product(loggers, handlers):
        logger.addHandler(handler)
    ours.setLevel(logging.INFO)
    try:
        yield
    finally:
        ours.setLevel(level)
        ours.propagate = propagate
        for logger, handler in product(loggers, handlers):
            logger.removeHandler(handler)


def _is_set_up(logger: logging.Logger) -> bool:
    """True if the program has said what becomes of this logger's progress."""
    of_its_own = bool(logger.handlers) or logger.level != logging.NOTSET
    return of_its_own or (logger.hasHandlers() and logger.isEnabledFor(logging.INFO))


def _is_watched() -> bool:
    is_interactive = "ipykernel" in sys.modules or hasattr(sys, "ps1")
    return is_interactive or (sys.stdout is not None and sys.stdout.isatty())


def show_table(columns: Sequence[str], rows: Sequence[Sequence[Any]], *, title: str = "") -> None:
    """A table on a terminal; elsewhere, and on one too narrow, one tab-separated line per row, never truncated."""
    if not sys.stdout.isatty() or not _draw_table(columns, rows, title):
        for row in (columns, *rows):
            print_line("\t".join(_on_one_line(str(cell)) for cell in row))


def _draw_table(columns: Sequence[str], rows: Sequence[Sequence[Any]], title: str) -> bool:
    """Draws the table if the terminal has room for it; returns whether it did."""
    from rich.console import Console
    from rich.table import Column, Table
    from rich.text import Text

    console = Console(file=_escaping(sys.stdout))
    if console.width < _NARROWEST * len(columns):
        return False
    headers = (Column(Text(column), overflow="fold") for column in columns)
    table = Table(*headers, title=title or None, title_justify="left")
    for row in rows:
        table.add_row(*(Text(str(cell)) for cell in row))
    console.print(table)
    return True


@contextmanager
def progress_bar(label: str, *, every_seconds: float = 10.0) -> Iterator[Callable[[int, int], None]]:
    """Takes (done, total): a bar on a terminal; elsewhere a line on stderr, at most one in ``every_seconds``."""
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import Progress

        with Progress(console=Console(file=_escaping(sys.stderr))) as bar:
            job = bar.add_task(label)
            yield lambda done, total: bar.update(job, completed=done, total=total)
        return
    last = time.monotonic()

    def advance(done: int, total: int) -> None:
        nonlocal last
        if time.monotonic() - last >= every_seconds:
            last = time.monotonic()
            print_error(f"{label}: {done} of {total}")

    yield advance


def _on_one_line(cell: str) -> str:
    """The cell with tabs and line breaks written as escapes: they would end the column or the row."""
    return _BREAKS.sub(lambda match: match[0].encode("unicode_escape").decode(), cell)


OF_THE_POSITIVE = ("average_precision", "precision", "recall", "f1")


def show_metrics(metrics: Mapping[str, Any]) -> None:
    """Every task's metrics with their intervals, then the table of modalities."""
    rows = [
        (task, f"{name} of {values['positive']}" if name in positive else name, *_estimate(value), values["n"])
        for task, values in metrics["tasks"].items()
        for positive in [OF_THE_POSITIVE if "positive" in values else ()]
        for name, value in values.items()
        if isinstance(value, Mapping) and "low" in value
    ]
    show_table(("task", "metric", "value", "95% interval", "records"), rows, title="Metrics")
    tasks = list(metrics["tasks"])
    table = [(inputs, *(_headline(values[task]) for task in tasks)) for inputs, values in metrics["modalities"].items()]
    print_line()
    show_table(("inputs shown", *tasks), table, title="What each input contributes")
    for task, details in metrics.get("details", {}).items():
        _show_details(task, details)
    calibration = [_calibration(task, values) for task, values in metrics.get("calibration", {}).items()]
    if calibration:
        print_line()
        columns = ("task", "temperature", "calibration error", "log loss", "records")
        show_table(columns, calibration, title="How far its probabilities can be believed")


MOST_LABELS = 20
"""Labels of a task that are shown in one table; of more, those with the lowest F1."""
MOST_CONFUSIONS = 5


def _show_details(task: str, details: Mapping[str, Any]) -> None:
    """One row per label, and the labels that are most often confused."""
    labels, title = details.get("classes", ()), f"Labels of {task}"
    if len(labels) > MOST_LABELS:
        title += f": the {MOST_LABELS} of {len(labels)} with the lowest F1 (--out FILE has all)"
        labels = sorted((row for row in labels if row["n"]), key=lambda row: float(row["f1"]))[:MOST_LABELS]
    shares = ("precision", "recall", "f1")
    rows = [(row["label"], row["n"], row["predicted"], *map(_number, map(row.get, shares))) for row in labels]
    print_line()
    show_table(("label", "records", "predicted", "precision", "recall", "F1"), rows, title=title)
    wrong = [cell for cell in details.get("confusion", ()) if cell["label"] != cell["predicted"]]
    if wrong:
        most = sorted(wrong, key=lambda cell: -int(cell["n"]))[:MOST_CONFUSIONS]
        found = [(cell["label"], cell["predicted"], cell["n"]) for cell in most]
        print_line()
        show_table(("label", "predicted", "records"), found, title=f"Most often confused in {task}")


def show_folds(result: Mapping[str, Any]) -> None:
    """Every task's metrics: mean over the folds with its interval, then each fold."""
    rows = [
        (task, name, *_estimate(values), *(_estimate({"value": value})[0] for value in values["folds"]))
        for task, metrics in result["tasks"].items()
        for name, values in metrics.items()
    ]
    numbers = [f"fold {number}" for number in range(1, result["folds"] + 1)]
    show_table(("task", "metric", "mean", "95% interval", *numbers), rows, title="Metrics on the fold held out")
    for task, absent in result["absent"].items():
        for number, labels in absent.items():
            print_line(f"{task}: fold {number} has no record of {', '.join(labels)}, so no AUC")


def show_ranking(result: Mapping[str, Any]) -> None:
    """Every candidate, best score first, then the choice."""

    def number(value: float | None) -> str:
        return "-" if value is None else f"{value:.3g}"

    rows = [
        (
            one["encoder"],
            *_estimate(one["score"]),
            *(number(one[key]) for key in ("logme", "leep", "nce", "a_distance", "seconds")),
            f"{one['parameters']:,}",
        )
        for one in result["candidates"]
    ]
    columns = ("encoder", "accuracy", "95% interval", "LogME", "LEEP", "NCE", "A-distance", "seconds", "parameters")
    show_table(columns, rows, title=f"Candidates for {result['input']}, by a probe on the same folds")
    print_line(f"best: {result['best']} ({result['rule']})")
    if result["tau"] is not None:
        print_line(f"Kendall's tau between LogME and the probe: {result['tau']:.2f}")


def show_transfer(result: Mapping[str, Any]) -> None:
    """Every task's arms with their intervals, then a few lines per task: verdict, action, inputs, scratch."""
    measured = {task: values for task, values in result["tasks"].items() if "arms" in values}
    rows = [
        (task, arm, *_estimate(value)) for task, values in measured.items() for arm, value in values["arms"].items()
    ]
    if rows:
        metrics = {values["metric"] for values in measured.values()}
        score = "accuracy" if metrics == {"accuracy"} else "accuracy or R2"
        show_table(("task", "arm", score, "95% interval"), rows, title="Arms, on the same folds")
        print_line()
    for line in transfer_lines(result):
        print_line(line)


def transfer_lines(result: Mapping[str, Any]) -> Iterator[str]:
    """A few lines per task: verdict, action, inputs, the trained model, scratch."""
    for task, values in result["tasks"].items():
        for line in _transfer_lines(values):
            yield f"{task}: {line}"


def _transfer_lines(values: Mapping[str, Any]) -> Iterator[str]:
    if "arms" not in values:
        yield f"transfer gap: not measured ({values['reason']})"
        return
    yield f"against {values['against']}: {values['summary']}"
    yield values["action"]
    if values["inputs"] is not None:
        yield f"{values['inputs']['note']}: {values['inputs']['summary']}"
    if values.get("trained") is not None:
        yield from _trained_lines(values["trained"])
    scratch = values.get("scratch")
    if scratch is not None and scratch["gap"] is not None:
        gap, interval = _estimate(scratch["gap"])
        yield (
            f"trained {scratch['configured']:.3g}, from scratch {scratch['scratch']:.3g} on {scratch['records']} "
            f"validation records: gap {gap}, optimistic 95 % interval {interval}"
        )


def _trained_lines(trained: Mapping[str, Any]) -> Iterator[str]:
    """The trained model against each probe, on validation records."""
    for arm, gap in trained["gaps"].items():
        yield (
            f"trained {trained['accuracy']['model']:.3g}, {arm} {trained['accuracy'][arm]:.3g} on {trained['records']} "
            f"validation records: {gap['verdict'] if gap['verdict'] != 'cannot be told' else 'no difference shown'}, "
            f"gap {gap['value']:+.3f}, 95 % interval {gap['low']:+.3f} to {gap['high']:+.3f}"
        )
    if trained["action"]:
        yield trained["action"]


HEADLINES = ("accuracy", "r2", "top1", "recall_at_1")
"""The metric that stands for a task, in order of preference; else its first one."""


def _headline(values: Mapping[str, Any]) -> str:
    scores = [name for name, value in values.items() if isinstance(value, Mapping) and "low" in value]
    name = next((name for name in (*HEADLINES, *scores) if name in scores), None)
    return "-" if name is None else f"{_estimate(values[name])[0]} ({values['n']})"


def _calibration(task: str, values: Mapping[str, Any]) -> tuple[str, ...]:
    after = values["after"]
    error, loss = (_estimate({"value": after[name]})[0] for name in ("error", "log_loss"))
    return task, f"{values['temperature']:.3g}", error, loss, str(values["records"])


def _estimate(estimate: Mapping[str, Any]) -> tuple[str, str]:
    low, high = estimate.get("low"), estimate.get("high")
    return _number(estimate["value"]), "-" if low is None else f"{_number(low)} to {_number(high)}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
