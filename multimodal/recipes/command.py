"""The command line that every recipe has; a recipe itself holds only its task."""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from multimodal.cli import errors_as_messages
from multimodal.config import Job
from multimodal.console import open_streams, progress_shown, show_metrics


def run_recipe(
    build: Callable[..., Job],
    *,
    choices: dict[str, Sequence[str]] | None = None,
    arguments: Sequence[str] | None = None,
) -> None:
    """Runs ``build(data, **chosen)`` as ``python -m multimodal.recipes.NAME --data FOLDER --out RUN``.

    Args:
        build: gives the task for a folder of manifests.
        choices: further options of the command, each with its values; the first is the default.
        arguments: in the place of ``sys.argv``.
    """
    parser = argparse.ArgumentParser(prog=f"python -m {_module_name(build)}", description=build.__doc__)
    parser.add_argument("--data", type=Path, required=True, metavar="FOLDER", help="folder of the manifests")
    parser.add_argument("--out", type=Path, required=True, metavar="RUN", help="takes the run")
    parser.add_argument("--set", action="append", default=[], metavar="A.B=C", help="changes a value of the task")
    parser.add_argument("--resume", action="store_true", help="resumes the run in --out")
    parser.add_argument("--overwrite", action="store_true", help="replaces the run in --out")
    parser.add_argument("--debug", action="store_true", help="shows the traceback of an error")
    for name, values in (choices or {}).items():
        parser.add_argument(f"--{name}", choices=values, default=values[0])
    open_streams()
    given = parser.parse_args(arguments)
    chosen = {name: getattr(given, name) for name in choices or {}}
    with errors_as_messages(debug=given.debug), progress_shown(always=True):
        _train(build(given.data.absolute(), **chosen), given)


def _module_name(build: Callable[..., Job]) -> str:
    """The module of ``build``, also where Python was started with it and calls it ``__main__``."""
    spec = getattr(sys.modules[build.__module__], "__spec__", None)
    return build.__module__ if spec is None else spec.name


def _train(job: Job, given: argparse.Namespace) -> None:
    from multimodal.training import fit

    run = fit(job, overrides=given.set, out=given.out, resume=given.resume, overwrite=given.overwrite)
    if run.metrics:
        show_metrics(run.metrics)
