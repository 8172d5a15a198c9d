"""Measuring a bundle."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from multimodal.commands.options import BundleFolder, Precision
from multimodal.console import say, show_table
from multimodal.runtime.files import refuse_overwriting, write_json


def bench(
    bundle: BundleFolder,
    out: Annotated[Path | None, typer.Option(metavar="FILE.json", help="Takes the same as JSON.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, or cuda:1 for the second.")] = "auto",
    precision: Precision = "auto",
    threads: Annotated[int | None, typer.Option(min=1, help="Of one operator on the CPU.")] = None,
    seconds: Annotated[float, typer.Option(min=0, help="Of each measurement.")] = 2.0,
) -> None:
    """Measures a bundle here, without torch: latency, throughput, each stage, cold start, memory."""
    from export import Predictor
    from export.bench import bench as measure
    from export.bench import bench_rows

    if out is not None:
        refuse_overwriting("--out", out, [("the bundle", bundle)])
    predictor = Predictor.load(bundle, device=device, precision=precision, threads=threads)
    with TemporaryDirectory(prefix="multimodal.bench.") as folder:
        result = measure(predictor, device=device, seconds=seconds, folder=Path(folder))
    flags = ", ".join(result["int8_instructions"]) or "none"
    say(f"{predictor.precision} on {predictor.device}, {result['cores']} cores, 8-bit instructions: {flags}")
    show_table(("measured", "value", "unit"), bench_rows(result), title=predictor.bundle.name)
    if out is not None:
        write_json(out, result)
