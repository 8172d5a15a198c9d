"""Explanation of a table: a folder with JSON and figures per record, and a page of all."""

import html
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from multimodal.explain.neighbors import Neighbors
from multimodal.explain.record import Explanation, explain_record
from multimodal.inference.record_model import RecordModel
from multimodal.records import RecordError, Records
from multimodal.runtime.files import replacing, write_atomically, write_json

PAGE = "index.html"

_HEAD = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Explanations</title>
<style>body{font:15px sans-serif;max-width:1340px;margin:2em auto;color:#222831}section{border-top:1px solid #cdd2d8;
padding:1em 0}img{max-width:640px;vertical-align:top;margin:4px}dt{font-weight:bold}small{color:#667}</style></head>
<body><h1>Explanations</h1>
<p>Bars: exact Shapley values of the inputs, which add up to the prediction. Orange parts support the prediction, blue
ones oppose it: the evidence lost when the part is painted over, silenced or deleted. Neighbours: training
records with the most similar fused vector, by cosine similarity. All numbers are in the JSON files.</p>
"""


def explain_table(
    box: RecordModel,
    records: Records,
    out: str | Path,
    *,
    tasks: Sequence[str] = (),
    rows: int = 5,
    training: Records | None = None,
    number: int = 3,
    on_failure: Callable[[str], None] | None = None,
) -> tuple[int, int]:
    """Explains the first rows of a table.

    Args:
        out: folder; takes ``0001.json``, ``0001-<task>-<input>.png`` and ``index.html``.
        tasks: names; none given: all.
        training: table to search for neighbours; None: no neighbours.
        number: of neighbours.
        on_failure: is told of each record that was not explained: where, and why.

    Returns:
        How many records were not explained, and how many were asked for.

    Raises:
        LookupError: if there is no such task.
        ValueError: if ``out`` holds something already, or neighbours are asked of a model without embeddings.
    """
    for task in tasks:
        if task not in box.decodings:
            raise LookupError(f"there is no task {task!r}; there are {', '.join(box.decodings)}")
    folder = Path(out)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{folder} exists and is not an empty folder; name another one, or remove it first")
    neighbors = None if training is None else Neighbors.of(box, training)
    folder.mkdir(parents=True, exist_ok=True)
    total, failed, sections = min(rows, len(records)), 0, []
    for row in range(total):
        try:
            explained = explain_record(
                box, records, row, tasks=tasks or list(box.decodings), neighbors=neighbors, number=number
            )
        except RecordError as error:
            failed += 1
            if on_failure is not None:
                on_failure(error.reason)
            continue
        sections.append(_section(explained, _write(explained, folder, f"{row + 1:04d}")))
    write_atomically(folder / PAGE, (_HEAD + "".join(sections) + "</body></html>\n").encode())
    return failed, total


def _write(explained: Explanation, folder: Path, stem: str) -> list[str]:
    """Names of the written files, the JSON first."""
    files = {f"{stem}-{name}.png": figure for name, figure in explained.figures.items()}
    for file, figure in files.items():
        with replacing(folder / file) as partial:
            figure.save(partial, format="PNG")
    content = {**explained.content, "pictures": list(files)}
    write_json(folder / f"{stem}.json", content)
    return [f"{stem}.json", *files]


def _section(explained: Explanation, files: Sequence[str]) -> str:
    content, (data, *figures) = explained.content, files
    parts = [f"<section><h2>{_safe(content['record'])}</h2><dl>"]
    parts += [f"<dt>{_safe(name)}</dt><dd>{_safe(value)}</dd>" for name, value in content["inputs"].items()]
    parts.append("</dl>")
    for task, entry in content["tasks"].items():
        probability = "" if entry["probability"] is None else f" <small>({entry['probability']:.4f})</small>"
        parts.append(f"<p>{_safe(task)}: <b>{_safe(_text(entry['answer']))}</b>{probability}</p>")
    parts += [f'<img src="{_safe(name)}" alt="{_safe(name)}" loading="lazy">' for name in figures]
    for near in content.get("neighbors", ()):
        values = ", ".join(f"{key}: {value}" for key, value in near["values"].items())
        parts.append(f"<p><small>{_safe(near['record'])}, {near['similarity']:.3f}: {_safe(values)}</small></p>")
    return "\n".join([*parts, f'<p><a href="{_safe(data)}">{_safe(data)}</a></p></section>\n'])


def _text(value: Any) -> Any:
    if value is None:
        return "no prediction"
    return ", ".join(value) if isinstance(value, list) else value


def _safe(value: Any) -> str:
    text = "missing" if value is None else str(value)
    return html.escape(text.encode("utf-8", "replace").decode())
