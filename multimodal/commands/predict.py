"""The command ``predict``, without torch."""

from pathlib import Path
from typing import Annotated, Any

import typer

from multimodal.commands.options import (
    AllowOutside,
    AllowPlugin,
    AudioFile,
    BatchSize,
    BundleFolder,
    Device,
    ImageFile,
    InputValues,
    Precision,
    TextValue,
    exit_for,
)
from multimodal.console import first_errors, print_error, print_line, progress_bar, show_table
from multimodal.records import RecordError

SHOWN = 3
"""Failures of one kind that are printed."""


def predict(
    bundle: BundleFolder,
    data: Annotated[
        Path | None, typer.Option("--data", metavar="FILE", help="CSV, TSV, JSON Lines or Parquet.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help="File with one line per record: .csv, .jsonl or .parquet."),
    ] = None,
    keep: Annotated[
        list[str] | None,
        typer.Option(
            "--keep", metavar="COLUMN", help="Column of FILE to copy before the predictions; may be repeated."
        ),
    ] = None,
    prefix: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help="Begins the names of a task that kept columns have; predicted_ if left out."),
    ] = None,
    inputs: InputValues = None,
    image: ImageFile = None,
    text: TextValue = None,
    audio: AudioFile = None,
    embeddings: Annotated[Path | None, typer.Option(metavar="FILE.npy", help="File for the embeddings.")] = None,
    task: Annotated[
        str | None, typer.Option(metavar="NAME", help="Task of the embeddings, if there are several.")
    ] = None,
    batch_size: BatchSize = 32,
    device: Device = "auto",
    precision: Precision = "auto",
    resume: Annotated[bool, typer.Option("--resume", help="Continues where an interrupted process stopped.")] = False,
    allow_outside: AllowOutside = False,
    allow_plugin: AllowPlugin = None,
) -> None:
    """Predicts without torch: a table (--data, --out), or one record (--input, --image, --text, --audio)."""
    from export import Predictor

    single = {"image": image, "text": text, "audio": audio}
    of_table = {"--keep": keep, "--prefix": prefix, "--embeddings": embeddings, "--task": task, "--resume": resume}
    check_source(data, out, inputs, single, of_table | {"--allow-outside": allow_outside}, example="preds.csv")
    predictor = Predictor.load(bundle, device=device, precision=precision, allow_plugins=allow_plugin or ())
    print_error(f"answering in {predictor.precision} on {predictor.device}")
    if data is None:
        _predict_one(predictor, one_record(predictor, inputs or [], single))
    else:
        from export.predictions import write_predictions

        assert out is not None
        prefix = "predicted_" if prefix is None else prefix
        others = f"the column {prefix if 'error' in (keep or ()) else ''}error of {out} has them all"
        with progress_bar("answering") as advance, first_errors(SHOWN, others) as on_failure:
            failed, total = write_predictions(
                predictor,
                data,
                out,
                keep=keep or (),
                prefix=prefix,
                embeddings=embeddings,
                task=task,
                batch_size=batch_size,
                on_failure=on_failure,
                allow_outside=allow_outside,
                resume=resume,
                advance=advance,
            )
        print_line(f"{out}: {total - failed} of {total} records answered")
        exit_for(failed, total)


def check_source(
    data: Path | None,
    out: Path | None,
    inputs: list[str] | None,
    single: dict[str, str | None],
    of_table: dict[str, Any],
    *,
    example: str,
) -> None:
    """Refuses a command that names both a table and a record, or neither, or no file for a table's predictions.

    Args:
        of_table: option -> what was given, of those that one record has no use for, beside ``--out``.
    """
    given = bool(inputs) or any(value is not None for value in single.values())
    if given == (data is not None):
        raise typer.BadParameter("give either --data FILE, or one record by --input, --image, --text, --audio")
    if data is not None and out is None:
        raise typer.BadParameter(f"name the file for the predictions, for example --out {example}", param_hint="--out")
    idle = [option for option, value in {"--out": out, **of_table}.items() if value]
    if data is None and idle:
        raise typer.BadParameter(
            f"{' and '.join(idle)} of one record would be ignored: its predictions are printed; leave it out, or give "
            "a table by --data FILE"
        )


def one_record(predictor: Any, inputs: list[str], single: dict[str, str | None]) -> dict[str, str]:
    """The record that a command's options describe."""
    record = {}
    for entry in inputs:
        name, separator, given = entry.partition("=")
        if not separator:
            raise typer.BadParameter(f"{entry!r} is not of the form NAME=VALUE", param_hint="--input")
        record[name] = given
    for modality, value in single.items():
        if value is not None:
            names = [name for name, kind in predictor.modalities.items() if kind == modality]
            if len(names) != 1:
                raise typer.BadParameter(
                    f"this bundle has {len(names)} {modality} inputs ({', '.join(names) or 'none'}); "
                    "name one with --input NAME=VALUE",
                    param_hint=f"--{modality}",
                )
            record[names[0]] = value
    return record


def _predict_one(predictor: Any, record: dict[str, str]) -> None:
    predictions = predictor.predict([record], on_error="return")[0]
    if isinstance(predictions, RecordError):  # the only record: its number says nothing
        raise ValueError(predictions.detail)
    rows = [(task, *decoding.shown(predictions[task])) for task, decoding in predictor.decodings.items()]
    show_table(("task", "answer", "probability"), rows)
