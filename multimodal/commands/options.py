"""Arguments and exit codes that commands share."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

EXIT_NOTHING_DONE, EXIT_USAGE, EXIT_SOME_FAILED = 1, 2, 3

Config = Annotated[Path, typer.Argument(help="YAML description of the job.", show_default=False)]
RunFolder = Annotated[
    Path,
    typer.Argument(metavar="RUN", help="Folder of a training run.", show_default=False, exists=True, file_okay=False),
]
BundleFolder = Annotated[Path, typer.Argument(metavar="BUNDLE", help="Folder of an exported bundle.")]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", metavar="A.B=C", help="Changes a value of the config; may be repeated.")
]
Table = Annotated[Path, typer.Option("--data", metavar="FILE", help="CSV, TSV, JSON Lines or Parquet.")]

AllowOutside = Annotated[
    bool, typer.Option("--allow-outside", help="Allows media outside the table's folder, also behind links.")
]

AllowPlugin = Annotated[
    list[str] | None,
    typer.Option(
        "--allow-plugin",
        metavar="NAME",
        help="Part of another distribution that the bundle may load, which runs its code; may be repeated.",
    ),
]


def read_job_first(config: Path, overrides: Sequence[str]) -> None:
    """Reads a job and looks for its tables and encoders before anything imports torch, which takes seconds.

    Raises:
        ConfigError, ManifestError: as the training would.
    """
    from encoders import find_encoder
    from multimodal.config import ConfigError
    from multimodal.config.setting import TABLES
    from multimodal.records import read_records
    from multimodal.splits.tables import open_job

    job, _ = open_job(config, overrides, {})
    for table in job.data.model_dump(include=set(TABLES)).values():
        if table is not None and not Path(table).exists():
            read_records(table)
    for name in job.inputs:
        try:
            find_encoder(str(job.owner(name).encoder))
        except LookupError as error:
            raise ConfigError(f"inputs.{name}: {error.args[0]}") from error


def exit_for(failed: int, total: int) -> None:
    """Ends the command where records have failed, with the exit code for some or all of them."""
    if failed:
        raise typer.Exit(EXIT_SOME_FAILED if failed < total else EXIT_NOTHING_DONE)


def _device(value: str) -> str:
    """The value, where it names a device."""
    from export.session import device_index

    try:
        device_index(value)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    return value


Precision = Annotated[str, typer.Option(help="auto, or one of the bundle's: fp32, fp16, int8.")]
BatchSize = Annotated[int, typer.Option(min=1)]

# of one record
InputValues = Annotated[
    list[str] | None, typer.Option("--input", metavar="NAME=VALUE", help="One input; may be repeated.")
]
ImageFile = Annotated[str | None, typer.Option(help="File for the only image input.")]
TextValue = Annotated[str | None, typer.Option(help="Text for the only text input.")]
AudioFile = Annotated[str | None, typer.Option(help="File for the only audio input.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, or cuda:1 for the second GPU.", callback=_device)]
