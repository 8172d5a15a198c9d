"""The command line, the roof of the house: every import of an upper floor happens inside its command."""

import importlib.util
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from multimodal.console import complain, say, show_metrics, show_table, show_transfer
from multimodal.records import RecordError
from multimodal.threads import share_cores

app = typer.Typer(
    name="multimodal",
    help="Transfer learning over images, text and audio: train, evaluate, export to ONNX, predict without torch.",
    epilog="With --debug an error shows its traceback.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)

EXIT_NOTHING_DONE, EXIT_USAGE, EXIT_SOME_FAILED = 1, 2, 3

Config = Annotated[Path, typer.Argument(help="YAML description of the job.", show_default=False)]
RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a training run.", show_default=False)]
BundleFolder = Annotated[Path, typer.Argument(metavar="BUNDLE", help="Folder of an exported bundle.")]
Overrides = Annotated[list[str] | None, typer.Option("--set", metavar="A.B=C", help="Changes a value of the config.")]
Table = Annotated[Path, typer.Option("--data", metavar="FILE", help="CSV, JSON Lines or Parquet.")]


@app.command()
def demo(
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Takes data, runs and bundle.")] = Path("demo"),
) -> None:
    """The main job on data that it makes itself: source task, transfer, evaluation, export, prediction."""
    from multimodal.demo.story import run_demo

    run_demo(out, say=say)


@app.command()
def train(
    config: Config,
    overrides: Overrides = None,
    out: Annotated[Path | None, typer.Option("--out", metavar="RUN", help="Folder of the run.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Goes on with the run in --out.")] = False,
    cache: Annotated[bool, typer.Option("--cache/--no-cache", help="Keeps frozen encoders' tokens on disk.")] = True,
) -> None:
    """Trains a job: RUN gets config.yaml, model.safetensors, metrics.json, history.csv and checkpoints/."""
    from multimodal.training import fit

    if resume and out is None:
        raise typer.BadParameter("name the run to go on with, for example --out runs/retail", param_hint="--resume")
    run = fit(config, overrides=overrides or (), out=out, resume=resume, cache=cache, say=say)
    if run.metrics:
        show_metrics(run.metrics)
    if any(encoder["weights"] != "random" for encoder in run.provenance["encoders"].values()):
        say(f"transfer gap: not measured; `multimodal transfer-check {config}` measures it")


@app.command()
def evaluate(
    run: RunFolder,
    data: Table,
    out: Annotated[Path | None, typer.Option("--out", metavar="FILE.json", help="Takes the metrics.")] = None,
) -> None:
    """Metrics of a run on a table: each task, and each task under every combination of inputs."""
    from multimodal.run import Run

    show_metrics(Run(run).evaluate(data, out=out))


@app.command()
def export(
    run: RunFolder,
    out: Annotated[Path, typer.Option("--out", metavar="BUNDLE", help="Folder of the bundle.")],
    precision: Annotated[Literal["fp32"], typer.Option()] = "fp32",
    embedding: Annotated[bool, typer.Option("--embedding", help="Lets the graph give the fused vector too.")] = False,
    golden_media: Annotated[
        bool, typer.Option("--golden-media", help="Keeps the raw values of its test records, which may be private.")
    ] = False,
    vocabulary: Annotated[
        Path | None,
        typer.Option(exists=True, metavar="FILE", help="Words, one a line, that word vectors keep; the others go."),
    ] = None,
) -> None:
    """Writes an ONNX bundle, after its answers were compared with torch's."""
    from export import export_bundle
    from multimodal.run import Run

    trained = Run(run)
    if vocabulary is not None:
        trained = trained.with_vocabulary(vocabulary.read_text(encoding="utf-8-sig").split())
    export_bundle(trained, out, precision=precision, embedding=embedding, golden_media=golden_media)
    say(f"{out}: parity with torch checked, bundle written")


def _device(value: str) -> str:
    from export.session import device_index

    try:
        device_index(value)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    return value


@app.command()
def predict(
    bundle: BundleFolder,
    data: Annotated[Path | None, typer.Option("--data", metavar="FILE", help="CSV, JSON Lines or Parquet.")] = None,
    out: Annotated[Path | None, typer.Option("--out", metavar="FILE.csv", help="Takes one line a record.")] = None,
    inputs: Annotated[list[str] | None, typer.Option("--input", metavar="NAME=VALUE", help="One input.")] = None,
    image: Annotated[str | None, typer.Option(help="The only image input's file.")] = None,
    text: Annotated[str | None, typer.Option(help="The only text input's text.")] = None,
    audio: Annotated[str | None, typer.Option(help="The only audio input's file.")] = None,
    embeddings: Annotated[Path | None, typer.Option(metavar="FILE.npy", help="Takes the embeddings.")] = None,
    batch_size: Annotated[int, typer.Option(min=1)] = 32,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, or cuda:1 for the second.", callback=_device)] = "auto",
) -> None:
    """Answers, without torch: of a table (--data, --out), or of one record (--input, --image, --text, --audio)."""
    from export import Predictor

    single = {"image": image, "text": text, "audio": audio}
    given = bool(inputs) or any(value is not None for value in single.values())
    if given == (data is not None):
        raise typer.BadParameter("give either --data FILE, or one record by --input, --image, --text, --audio")
    if data is not None and out is None:
        raise typer.BadParameter("name the file for the answers, for example --out preds.csv", param_hint="--out")
    predictor = Predictor.load(bundle, device=device)
    if data is None:
        _predict_one(predictor, _record(predictor, inputs or [], single))
    else:
        from export.predictor import write_predictions

        assert out is not None
        failed, total = write_predictions(
            predictor, data, out, embeddings=embeddings, batch_size=batch_size, complain=complain
        )
        say(f"{out}: {total - failed} of {total} records answered")
        if failed:
            raise typer.Exit(EXIT_SOME_FAILED if failed < total else EXIT_NOTHING_DONE)


def _record(predictor: Any, inputs: list[str], single: dict[str, str | None]) -> dict[str, str]:
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
    answers = predictor.predict([record])[0]
    rows = []
    for task in predictor.tasks:  # the embedding, which is no task, has no line
        prediction = answers[task]
        if prediction.value is not None:
            unit = predictor.decodings[task].unit
            rows.append((task, f"{prediction.value:.6g} {unit}".strip(), ""))
        else:
            labels = prediction.label if prediction.label is not None else ";".join(prediction.labels)
            labels = labels or ("" if predictor.tasks[task] == "multilabel" else "(no answer)")
            rows.append((task, labels, "" if prediction.probability is None else f"{prediction.probability:.4f}"))
    show_table(("task", "answer", "probability"), rows)


@app.command()
def explain(
    model: Annotated[Path, typer.Argument(metavar="RUN|BUNDLE", help="A run, or a bundle (without torch).")],
    data: Table,
    out: Annotated[Path, typer.Option("--out", metavar="FOLDER", help="Takes pictures, JSON and index.html.")],
    tasks: Annotated[list[str] | None, typer.Option("--task", metavar="NAME", help="All, if left out.")] = None,
    rows: Annotated[int, typer.Option(min=1, help="How many, from the first.")] = 5,
    train: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where neighbours are looked for; a run knows its own.")
    ] = None,
    neighbors: Annotated[int, typer.Option(min=0, help="Nearest training records named; 0: none.")] = 3,
) -> None:
    """What each input, region, word and second contributed to the answers, and the nearest training records."""
    from export import Predictor
    from export.bundle import BUNDLE_FILE
    from export.sources import check_manifest
    from multimodal.explain.report import explain_table
    from multimodal.records import read_records

    training, allow_outside = None if train is None else read_records(train), False
    if (model / BUNDLE_FILE).is_file():
        box = Predictor.load(model).black_box()
    else:
        from multimodal.run import Run

        run = Run(model)
        box, allow_outside = run.black_box(), run.task.data.allow_outside
        if training is None and neighbors:
            training = run.training_records()
    records = read_records(data, allow_outside=allow_outside)
    check_manifest(records, {name: reader.column for name, reader in box.readers.items()})
    if training is not None and neighbors:
        say(f"encoding {len(training)} records of {training.source} to find neighbours (--neighbors 0: none)")
    failed, total = explain_table(
        box,
        records,
        out,
        tasks=tasks or (),
        rows=rows,
        training=training if neighbors else None,
        number=neighbors,
        complain=complain,
    )
    say(f"{out}: {total - failed} of {total} records explained; open {out / 'index.html'}")
    if failed:
        raise typer.Exit(EXIT_SOME_FAILED if failed < total else EXIT_NOTHING_DONE)


@app.command()
def verify(bundle: BundleFolder) -> None:
    """Checks a bundle: hashes, golden samples, parity report. Exit code 1 on any mismatch."""
    from export import verify_bundle

    problems = verify_bundle(bundle)
    for problem in problems:
        complain(problem)
    if problems:
        raise typer.Exit(EXIT_NOTHING_DONE)
    say(f"{bundle}: whole; hashes, golden samples and parity report agree")


@app.command()
def check(config: Config, overrides: Overrides = None) -> None:
    """Validates a config and every file of its data before training. Exit code 1 on errors, 0 with warnings."""
    from multimodal.check import check_task
    from multimodal.config import load_task

    task = load_task(config, overrides or ())
    problems = check_task(task, config.resolve().parent)
    if problems:
        columns = ("severity", "file", "row", "column", "problem")
        shown = [(p.severity, p.file, p.row or "", p.column or "", p.message) for p in problems]
        show_table(columns, shown)
    errors = sum(problem.severity == "error" for problem in problems)
    say(f"{config}: {errors} errors, {len(problems) - errors} warnings")
    if errors:
        raise typer.Exit(EXIT_NOTHING_DONE)


@app.command()
def transfer_check(
    config: Config,
    overrides: Overrides = None,
    scratch: Annotated[
        bool, typer.Option("--scratch", help="Also trains the job, and the same from random weights.")
    ] = False,
    out: Annotated[Path | None, typer.Option("--out", metavar="FILE.json", help="Takes arms, gaps, verdicts.")] = None,
) -> None:
    """Whether the encoders' weights help: against raw features, random weights, and each input alone."""
    from multimodal.transfer_gap import transfer_check as check_transfer

    show_transfer(check_transfer(config, overrides=overrides or (), scratch=scratch, out=out, say=say))


@app.command()
def encoders(
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME]...", show_default=False)] = None,
    modality: Annotated[str | None, typer.Option(help="image, text or audio.")] = None,
    download: Annotated[bool, typer.Option("--download", help="Fetches the weights of every NAME.")] = False,
    tower: Annotated[str | None, typer.Option(help="With --download: which half of CLIP, SigLIP or CLAP.")] = None,
) -> None:
    """Lists encoders with their licence and source, all or those named; with --download fetches their weights."""
    from encoders import find_encoder, list_encoders

    if download:
        _download(names or [], {} if tower is None else {"tower": tower})
        return
    found = [find_encoder(name) for name in names] if names else list_encoders(modality)
    if not found:
        raise typer.BadParameter(f"no encoder reads {modality!r}; give image, text or audio", param_hint="--modality")
    rows = [
        (info.name, info.modality, info.embed_dim or "", info.parameters or "", info.source, info.licence, info.paper)
        for info in found
    ]
    show_table(("name", "modality", "width", "parameters", "source", "licence", "paper"), rows)


def _download(names: list[str], options: dict[str, str]) -> None:
    """Builds each encoder once, which leaves its weights in the library's own cache."""
    from encoders import create_encoder

    if not names:
        raise typer.BadParameter("name the encoders to fetch, for example torchvision/resnet18", param_hint="NAME")
    for name in names:
        encoder = create_encoder(name, weights="pretrained", **options)
        say(f"{name}: on this machine; sha256 {encoder.provenance.sha256}, licence {encoder.provenance.licence}")


@app.command()
def doctor() -> None:
    """Versions, devices, and what onnxruntime really runs on."""
    from export.session import describe_device
    from multimodal.doctor import report

    show_table(("what", "found"), report(describe_device()))


def _check_packages() -> None:
    """``encoders``, ``fusion`` and ``export`` are common words: names the file that shadows one of them."""
    home = Path(__file__).resolve().parent.parent
    for name in ("encoders", "fusion", "export"):
        spec = importlib.util.find_spec(name)
        origin = Path(spec.origin).resolve() if spec is not None and spec.origin is not None else None
        if origin is None or origin.parent.parent != home:
            found = "nothing" if origin is None else str(origin)
            raise ImportError(
                f"`import {name}` finds {found}, not this package's {home / name}; rename or remove it, or run from "
                "another folder"
            )


def main() -> None:
    """Runs a command; its errors are one message, and with ``--debug`` a traceback."""
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    debug = len(arguments) < len(sys.argv) - 1
    share_cores()
    try:
        _check_packages()
        app(args=arguments, prog_name="multimodal")
    except Exception as error:
        if debug:
            raise
        complain(f"error: {describe(error)}")
        sys.exit(EXIT_NOTHING_DONE)


def describe(error: Exception) -> str:
    """An error as one message: ours as they are, others with their type, a missing package with its command."""
    if isinstance(error, ModuleNotFoundError) and str(error).startswith("No module named"):  # Python's own words
        from encoders.registry import missing_extra

        return str(missing_extra(error, "train"))
    if isinstance(error, RecordError) and ", row " in error.reason:  # it holds the place, counted as people do
        return error.reason
    is_python = isinstance(error, KeyError | IndexError)  # a slip in the code, whose text alone says nothing
    message = str(error.args[0]) if isinstance(error, LookupError) and not is_python and error.args else str(error)
    ours = type(error).__module__.partition(".")[0] in ("encoders", "fusion", "multimodal", "export")
    plain = isinstance(error, ValueError | LookupError | OSError | ImportError)
    return message if ours or (plain and not is_python) else f"{type(error).__name__}: {message} (--debug shows where)"
