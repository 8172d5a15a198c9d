"""Commands that write, check and measure bundles: export, verify, bench."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from multimodal.commands.options import EXIT_NOTHING_DONE, AllowPlugin, BundleFolder, Precision, RunFolder
from multimodal.console import print_error, print_line, show_table
from multimodal.runtime.files import refuse_overwriting, write_json

PRECISIONS = ("fp32", "fp16", "int8")


def _precisions(given: list[str] | None) -> list[str] | None:
    for precision in given or ():
        if precision not in PRECISIONS:
            raise typer.BadParameter(f"{precision!r} is none of {', '.join(PRECISIONS)}")
    return given


def export(
    run: RunFolder,
    out: Annotated[Path, typer.Option("--out", metavar="BUNDLE", help="Folder of the bundle.")],
    precision: Annotated[
        list[str] | None,
        typer.Option(
            metavar="fp32|fp16|int8",
            help="Also fp16 (for CUDA) or int8 (for CPUs); may be repeated.",
            callback=_precisions,
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Labelled records in place of the run's validation records: compared with torch, and "
            "what fp16 and int8 are judged on.",
        ),
    ] = None,
    calibration: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Records that calibrate int8; default: the run's training records."),
    ] = None,
    embedding: Annotated[bool, typer.Option("--embedding", help="Adds the fused vector to the outputs.")] = False,
    golden_media: Annotated[
        bool, typer.Option("--golden-media", help="Keeps raw values of its golden records, which may be private.")
    ] = False,
    triton: Annotated[
        Path | None, typer.Option("--triton", metavar="DIR", help="Folder for a Triton model repository.")
    ] = None,
    triton_precision: Annotated[
        str, typer.Option(help="Precision in that repository, one of the bundle's: fp16 for GPUs, int8 for CPUs.")
    ] = "fp32",
    vocabulary: Annotated[
        Path | None,
        typer.Option(exists=True, metavar="FILE", help="Words, one per line, that word vectors keep."),
    ] = None,
) -> None:
    """Writes an ONNX bundle and checks that its outputs agree with torch."""
    from export import export_bundle
    from export.bundle import PARITY_FILE
    from export.gate import report_lines
    from multimodal.run import Run

    precisions = dict.fromkeys(["fp32", *(precision or ())])
    if triton_precision not in precisions:
        raise typer.BadParameter(
            f"--triton-precision is {triton_precision!r}, and the bundle is to hold {', '.join(precisions)}; "
            f"give one of these, or also --precision {triton_precision}"
        )
    if triton is not None:
        refuse_overwriting("--triton", triton, [("the bundle", out)])
    trained = Run(run)
    if vocabulary is not None:
        trained = trained.with_vocabulary(vocabulary.read_text(encoding="utf-8-sig").split())
    bundle = export_bundle(
        trained,
        out,
        records=data,
        calibration=calibration,
        precision=precision or "fp32",
        embedding=embedding,
        golden_media=golden_media,
    )
    reports = bundle.read_json(PARITY_FILE)["models"]
    for name, file in bundle.models.items():
        if name != "fp32":
            for line in report_lines(reports[file]):
                print_line(line)
    print_line(f"{out}: parity with torch checked, bundle written")
    if triton is not None:
        from export.triton import write_triton_repository

        # a run's own plug-ins have run already
        names = write_triton_repository(out, triton, precision=triton_precision, allow_plugins=None)
        print_line(f"{triton}: Triton model repository written; clients call {names['ensemble']!r}")


def verify(bundle: BundleFolder, allow_plugin: AllowPlugin = None) -> None:
    """Checks a bundle: hashes, golden samples, parity report. Exit code 1 on any mismatch."""
    from export import verify_bundle

    problems = verify_bundle(bundle, allow_plugins=allow_plugin or ())
    for problem in problems:
        print_error(problem)
    if problems:
        raise typer.Exit(EXIT_NOTHING_DONE)
    print_line(f"{bundle}: whole; hashes, golden samples and parity report agree")


def bench(
    bundle: BundleFolder,
    out: Annotated[Path | None, typer.Option(metavar="FILE.json", help="File for the same as JSON.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, or cuda:1 for the second.")] = "auto",
    precision: Precision = "auto",
    threads: Annotated[int | None, typer.Option(min=1, help="Threads per operator on the CPU.")] = None,
    seconds: Annotated[float, typer.Option(min=0, help="Duration of each measurement.")] = 2.0,
    allow_plugin: AllowPlugin = None,
) -> None:
    """Measures a bundle on this machine, without torch: latency, throughput, each stage, cold start, memory."""
    from export import Predictor
    from export.bench import bench as measure
    from export.bench import bench_rows

    if out is not None:
        refuse_overwriting("--out", out, [("the bundle", bundle)])
    allowed = tuple(allow_plugin or ())
    predictor = Predictor.load(bundle, device=device, precision=precision, threads=threads, allow_plugins=allowed)
    with TemporaryDirectory(prefix="multimodal.bench.") as folder:
        result = measure(predictor, device=device, seconds=seconds, folder=Path(folder), allow_plugins=allowed)
    flags = ", ".join(result["int8_instructions"]) or "none"
    print_line(f"{predictor.precision} on {predictor.device}, {result['cores']} cores, 8-bit instructions: {flags}")
    show_table(("measured", "value", "unit"), bench_rows(result), title=predictor.bundle.name)
    if out is not None:
        write_json(out, result)
