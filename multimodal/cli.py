"""The command line, the roof of the house."""

import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Annotated

import typer

from multimodal.commands.encoders import doctor, encoders
from multimodal.commands.explain import explain
from multimodal.commands.export import bench, export, verify
from multimodal.commands.gallery import gallery
from multimodal.commands.options import EXIT_NOTHING_DONE
from multimodal.commands.predict import predict
from multimodal.commands.serve import serve
from multimodal.commands.train import check, demo, evaluate, train
from multimodal.commands.transfer import rank, transfer_check
from multimodal.console import open_streams, print_error, print_line, progress_shown
from multimodal.records import RecordError
from multimodal.runtime.threads import set_omp_wait_policy

app = typer.Typer(
    name="multimodal",
    help="Transfer learning over images, text and audio: train, evaluate, export to ONNX, predict without torch.",
    epilog="With --debug an error shows its traceback.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)


def _show_version(asked: bool) -> None:
    if asked:
        print_line(f"multimodal-transfer {version_of('multimodal-transfer')}")
        raise typer.Exit


@app.callback()
def _options(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_show_version, help="Shows the version.")
    ] = False,
) -> None:
    if context.invoked_subcommand != "serve":  # it has a log
        context.with_resource(progress_shown(always=True))


for command in (
    demo,
    check,
    rank,
    transfer_check,
    train,
    evaluate,
    explain,
    export,
    verify,
    predict,
    bench,
    serve,
    encoders,
    doctor,
):
    app.command()(command)  # in the order of a job
app.add_typer(gallery, name="gallery")


def _check_packages() -> None:
    """``encoders``, ``fusion`` and ``export`` are common words: names the file that shadows one of them."""
    home = Path(__file__).parent.parent.resolve()  # of the folder: single files may be links, into a cache
    for name in ("encoders", "fusion", "export"):
        spec = importlib.util.find_spec(name)
        origin = Path(spec.origin) if spec is not None and spec.origin is not None else None
        if origin is None or origin.parent.parent.resolve() != home:
            found = "nothing" if origin is None else str(origin)
            raise ImportError(
                f"`import {name}` finds {found}, not this package's {home / name}; rename or remove it, or run from "
                "another folder"
            )


def main() -> None:
    """Runs a command; its errors are one message, and with ``--debug`` a traceback."""
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    set_omp_wait_policy()
    with errors_as_messages(debug=len(arguments) < len(sys.argv) - 1):
        _check_packages()
        app(args=arguments, prog_name="multimodal")


@contextmanager
def errors_as_messages(*, debug: bool) -> Iterator[None]:
    """Ends the process with one message for an error, or with its traceback; prepares stdout and stderr."""
    open_streams()
    try:
        _check_working_folder()
        yield
    except Exception as error:
        if debug:
            raise
        print_error(f"error: {describe(error)}")
        sys.exit(EXIT_NOTHING_DONE)


def _check_working_folder() -> None:
    try:
        Path.cwd()
    except OSError as error:  # torch's own libraries would end the process without a reason
        raise OSError(f"the working directory cannot be used ({error.strerror}); change to another folder") from error


def describe(error: Exception) -> str:
    """An error as one message: ours as they are, others with their type, a missing package with its command."""
    if isinstance(error, ModuleNotFoundError) and str(error).startswith("No module named"):  # Python's own words
        from encoders.info import missing_extra

        return str(missing_extra(error))
    if isinstance(error, RecordError) and ", row " in error.reason:  # it holds the place, counted as people do
        return error.reason
    is_python = isinstance(error, KeyError | IndexError)  # a slip in the code, whose text alone says nothing
    message = str(error.args[0]) if isinstance(error, LookupError) and not is_python and error.args else str(error)
    ours = type(error).__module__.partition(".")[0] in ("encoders", "fusion", "multimodal", "export")
    plain = isinstance(error, ValueError | LookupError | OSError | ImportError)
    return message if ours or (plain and not is_python) else f"{type(error).__name__}: {message} (--debug shows where)"
