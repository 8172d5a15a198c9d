"""The command ``explain``."""

from pathlib import Path
from typing import Annotated

import typer

from multimodal.commands.options import AllowOutside, AllowPlugin, Table, exit_for
from multimodal.console import print_error, print_line
from multimodal.records import read_records
from multimodal.records.media import Outside
from multimodal.runtime.files import refuse_overwriting


def explain(
    model: Annotated[
        Path, typer.Argument(metavar="RUN|BUNDLE", help="A run, or a bundle (without torch).", exists=True)
    ],
    data: Table,
    out: Annotated[Path, typer.Option("--out", metavar="FOLDER", help="Folder for figures, JSON and index.html.")],
    tasks: Annotated[list[str] | None, typer.Option("--task", metavar="NAME", help="All, if left out.")] = None,
    rows: Annotated[int, typer.Option(min=1, help="How many, from the first.")] = 5,
    train: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where neighbours are looked for; a run knows its own.")
    ] = None,
    neighbors: Annotated[int, typer.Option(min=0, help="Nearest training records named; 0: none.")] = 3,
    allow_outside: AllowOutside = False,
    allow_plugin: AllowPlugin = None,
) -> None:
    """Shows what each input, region, word and second contributed to predictions, and the nearest training records."""
    from export import Predictor
    from export.bundle import BUNDLE_FILE
    from multimodal.explain.report import explain_table
    from multimodal.inference.sources import check_manifest

    outside: Outside = allow_outside
    known = None
    if (model / BUNDLE_FILE).is_file():
        refuse_overwriting("--out", out, [("the bundle", model)])
        box = Predictor.load(model, allow_plugins=allow_plugin or ()).record_model()
    elif allow_plugin:
        raise typer.BadParameter(f"{model} is no bundle, and a run loads what it was trained with; leave it out",
                                 param_hint="--allow-plugin")  # fmt: skip
    else:
        from multimodal.run import Run

        run = Run(model)
        box, outside = run.record_model(), allow_outside or run.job.data.outside
        known = run.training_records() if train is None and neighbors else None
    training = known if train is None else read_records(train, allow_outside=outside)
    records = read_records(data, allow_outside=outside)
    check_manifest(records, {name: reader.column for name, reader in box.readers.items()})
    if training is not None and neighbors:
        print_line(f"encoding {len(training)} records of {training.source} to find neighbours (--neighbors 0: none)")
    failed, total = explain_table(
        box,
        records,
        out,
        tasks=tasks or (),
        rows=rows,
        training=training if neighbors else None,
        number=neighbors,
        on_failure=print_error,
    )
    print_line(f"{out}: {total - failed} of {total} records explained; open {out / 'index.html'}")
    exit_for(failed, total)
