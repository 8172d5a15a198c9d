"""Commands of training: demo, check, train, evaluate."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from multimodal.commands.options import EXIT_NOTHING_DONE, Config, Overrides, RunFolder, Table, read_job_first
from multimodal.console import print_line, show_folds, show_metrics, show_table

SHOWN = 3
"""Problems of one column of one table that `check` shows."""


def demo(
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder for data, runs and bundle.")] = Path("demo"),
) -> None:
    """Runs the main job on its own small data: source task, transfer, evaluation, export, prediction."""
    from multimodal.demo.story import run_demo

    run_demo(out)


def check(
    config: Config,
    overrides: Overrides = None,
    everything: Annotated[
        bool, typer.Option("--all", help=f"Shows every problem, not only {SHOWN} per column.")
    ] = False,
) -> None:
    """Checks a config and every file of its data before training. Exit code 1 on errors, 0 with warnings only."""
    from multimodal.check.job import check_job
    from multimodal.check.problems import first_of_each
    from multimodal.config import load_job

    job = load_job(config, overrides or ())
    problems = check_job(job, config.parent)
    if problems:
        listed = problems if everything else first_of_each(problems, SHOWN)
        columns = ("severity", "file", "row", "column", "problem")
        shown = [(p.severity, p.file, p.row or "", p.column or "", p.message) for p in listed]
        show_table(columns, shown)
    errors = sum(problem.severity == "error" for problem in problems)
    print_line(f"{config}: {errors} errors, {len(problems) - errors} warnings")
    if errors:
        raise typer.Exit(EXIT_NOTHING_DONE)


def train(
    config: Config,
    overrides: Overrides = None,
    out: Annotated[Path | None, typer.Option("--out", metavar="RUN", help="Folder of the run.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continues the run in --out.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replaces the run in --out.")] = False,
    folds: Annotated[
        int | None, typer.Option("--folds", metavar="K", min=2, help="Cross-validates in K folds.")
    ] = None,
    encoder: Annotated[
        Literal["auto"] | None, typer.Option("--encoder", help="auto: ranks inputs.*.candidates and takes the best.")
    ] = None,
    cache: Annotated[bool, typer.Option("--cache/--no-cache", help="Keeps tokens of frozen encoders on disk.")] = True,
) -> None:
    """Trains a job: RUN gets config.yaml, model.safetensors, metrics.json, history.csv and checkpoints/.

    With --folds, RUN gets a run for each fold of the training table, folds.json and out_of_fold.csv.
    """
    if resume and out is None:
        raise typer.BadParameter("name the run to resume, for example --out runs/retail", param_hint="--resume")
    if overwrite and (resume or out is None):
        message = "leave --resume out" if resume else "name the run to replace, for example --out runs/retail"
        raise typer.BadParameter(message, param_hint="--overwrite")
    read_job_first(config, overrides or ())
    options: dict[str, Any] = {"resume": resume, "overwrite": overwrite, "cache": cache}
    if folds is not None:
        if encoder is not None:
            message = "choose the encoders first, with `multimodal rank`: the folds must not choose what they judge"
            raise typer.BadParameter(message, param_hint="--encoder")
        from multimodal.cross_validation import cross_validate

        show_folds(cross_validate(config, folds, overrides=overrides or (), out=out, **options))
        return
    from multimodal.training import fit

    run = fit(config, overrides=overrides or (), out=out, encoder=encoder, **options)
    if run.metrics:
        show_metrics(run.metrics)


def evaluate(
    run: RunFolder,
    data: Table,
    out: Annotated[Path | None, typer.Option("--out", metavar="FILE.json", help="File for the metrics.")] = None,
) -> None:
    """Scores a run on a table: each task, with all inputs and with every subset of them."""
    from multimodal.run import Run

    show_metrics(Run(run).evaluate(data, out=out))
