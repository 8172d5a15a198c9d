"""The commands ``gallery``: products enrolled without training again, without torch."""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

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
    Table,
    TextValue,
    exit_for,
)
from multimodal.commands.predict import check_source, one_record
from multimodal.console import print_error, print_line, show_table
from multimodal.metrics.intervals import wilson_interval
from multimodal.records import RecordError, Records, read_records
from multimodal.runtime.files import refuse_overwriting

gallery = typer.Typer(help="Enrols products from a few records each, without training again.", no_args_is_help=True)

NO_THRESHOLD = "no threshold: every record gets an answer; set one with `multimodal gallery calibrate`"

Folder = Annotated[Path, typer.Option("--gallery", metavar="G", help="Folder of the gallery.", show_default=False)]
VectorTask = Annotated[
    str | None, typer.Option("--task", metavar="NAME", help="Task of the vectors, if there are several.")
]
LabelColumn = Annotated[
    str, typer.Option("--label", metavar="COLUMN", help="Column with the product.", show_default=False)
]


@gallery.command()
def add(
    bundle: BundleFolder,
    folder: Folder,
    data: Table,
    label: LabelColumn,
    task: VectorTask = None,
    batch_size: BatchSize = 32,
    device: Device = "auto",
    allow_outside: AllowOutside = False,
    allow_plugin: AllowPlugin = None,
) -> None:
    """Enrols the records of a table; makes the gallery where there is none."""
    opened = _open(folder, bundle, device, allow_plugin, task=task, create=True)
    table = read_records(data, allow_outside=allow_outside)
    done = opened.add(table, label, batch_size=batch_size, on_error="return")
    _print_errors(done.errors, table, opened)
    print_line(
        f"{folder}: {done.added} vectors added, {done.repeated} were there already; {len(done.products)} new products, "
        f"{len(opened.products)} in all"
    )
    if opened.refusal is None and done.added:
        print_line(NO_THRESHOLD)
    exit_for(len(done.errors), len(table))


@gallery.command()
def remove(
    bundle: BundleFolder,
    folder: Folder,
    labels: Annotated[list[str], typer.Option("--label", metavar="L", help="Product to remove; may be repeated.")],
    device: Device = "auto",
    allow_plugin: AllowPlugin = None,
) -> None:
    """Removes products; one that is not enrolled changes nothing."""
    import difflib

    opened = _open(folder, bundle, device, allow_plugin)
    before = opened.products
    count = opened.remove(labels)
    for label in labels:
        if label not in before:
            near = difflib.get_close_matches(label, before, n=1)
            print_error(f"{label!r} is not enrolled" + (f"; did you mean {near[0]!r}?" if near else ""))
    print_line(f"{folder}: {count} products removed, {len(opened.products)} in all")


@gallery.command()
def search(
    bundle: BundleFolder,
    folder: Folder,
    data: Annotated[
        Path | None, typer.Option("--data", metavar="FILE", help="CSV, TSV, JSON Lines or Parquet.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE.csv", help="File with one line per record.")
    ] = None,
    inputs: InputValues = None,
    image: ImageFile = None,
    text: TextValue = None,
    audio: AudioFile = None,
    top: Annotated[int, typer.Option(min=1, help="Products shown for each record.")] = 5,
    index: Annotated[
        Literal["exact", "faiss"], typer.Option(help="faiss: for hundreds of thousands of vectors.")
    ] = "exact",
    batch_size: BatchSize = 32,
    device: Device = "auto",
    allow_outside: AllowOutside = False,
    allow_plugin: AllowPlugin = None,
) -> None:
    """Finds the nearest products: of a table (--data, --out), or of one record (--input, --image, --text, --audio)."""
    from export.gallery.folder import own_files
    from export.gallery.results import write_search_results

    single = {"image": image, "text": text, "audio": audio}
    check_source(data, out, inputs, single, {"--allow-outside": allow_outside}, example="found.csv")
    opened = _open(folder, bundle, device, allow_plugin, index=index)
    if data is None:
        found = opened.search([one_record(opened.predictor, inputs or [], single)], k=top)[0]
        show_table(("product", "similarity"), [(match.label, f"{match.similarity:.4f}") for match in found.matches])
        print_line(f"answer: {'(unknown product)' if found.label is None else found.label}")
        return
    assert out is not None
    table = read_records(data, allow_outside=allow_outside)
    read = [("the table", data), ("the bundle", bundle), *own_files(folder)]
    refuse_overwriting("--out", out, read, table.media([entry.column for entry in opened.predictor.inputs.values()]))
    results = opened.search(table, k=top, batch_size=batch_size, on_error="return")
    write_search_results(out, results, top)
    errors = [result for result in results if isinstance(result, RecordError)]
    _print_errors(errors, table, opened)
    refused = sum(not isinstance(result, RecordError) and not result.is_known for result in results)
    print_line(f"{out}: {len(results) - len(errors)} of {len(results)} records answered, {refused} of them as unknown")
    exit_for(len(errors), len(table))


@gallery.command()
def calibrate(
    bundle: BundleFolder,
    folder: Folder,
    data: Annotated[
        Path | None, typer.Option("--data", metavar="FILE", help="Labelled records that are not enrolled.")
    ] = None,
    label: Annotated[str | None, typer.Option("--label", metavar="COLUMN", help="Column with the product.")] = None,
    accept: Annotated[float, typer.Option(help="Share of known records to accept.")] = 0.95,
    device: Device = "auto",
    allow_outside: AllowOutside = False,
    allow_plugin: AllowPlugin = None,
) -> None:
    """Sets the similarity below which a record is rejected as unknown; without --data from the gallery itself."""
    if (data is None) != (label is None):
        raise typer.BadParameter("give --data and --label together, or neither")
    opened = _open(folder, bundle, device, allow_plugin)
    table = None if data is None else read_records(data, allow_outside=allow_outside)
    done = opened.calibrate(table, label, accept=accept, on_error="return")
    if table is not None:
        _print_errors(done.errors, table, opened)
    if done.left_out:
        print_line(f"{done.left_out} records left out: they are enrolled themselves")
    _show(opened)
    if table is not None:
        exit_for(len(done.errors), len(table))


@gallery.command()
def info(bundle: BundleFolder, folder: Folder, device: Device = "auto", allow_plugin: AllowPlugin = None) -> None:
    """Lists the products and the threshold of a gallery."""
    opened = _open(folder, bundle, device, allow_plugin)
    show_table(("product", "vectors"), list(opened.products.items()))
    source = opened.contents.source
    print_line(f"{len(opened.products)} products, {len(opened.contents.vectors)} vectors of {source.dim} numbers")
    print_line(f"vectors: {source.output!r} of {source.bundle} (sha256 {source.sha256[:12]})")
    _show(opened)


def _show(opened: Any) -> None:
    refusal = opened.refusal
    if refusal is None:
        print_line(NO_THRESHOLD)
        return
    unknown = "records of other products" if refusal.unknowns == "records" else "records with their product left out"
    accepted, false = _share(refusal.accepted, refusal.known), _share(refusal.false_accepted, refusal.unknown)
    print_line(f"threshold: {refusal.threshold:.4f}, accepts {accepted} of {refusal.known} known records")
    print_line(f"unknown: accepts {false} of {refusal.unknown} {unknown}; AUROC {refusal.auroc:.4f}")


def _share(value: float, n: int) -> str:
    """A share of n records with its Wilson interval."""
    low, high = wilson_interval(value * n, n)
    return f"{value:.1%} ({low:.1%} to {high:.1%})"


def _open(
    folder: Path, bundle: Path, device: str, allow_plugin: list[str] | None, *, create: bool = False, **options: Any
) -> Any:
    from export import Gallery, Predictor

    predictor = Predictor.load(bundle, device=device, precision="fp32", allow_plugins=allow_plugin or ())
    return Gallery.open(folder, predictor, create=create, **options)


def _print_errors(errors: Iterable[RecordError], table: Records, opened: Any) -> None:
    columns = {name: entry.column for name, entry in opened.predictor.inputs.items()}
    for error in errors:
        column = None if error.input is None else columns[error.input]
        print_error(f"{table.place(error.row, column)}: {error.reason}")
