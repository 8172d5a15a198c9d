"""Commands that measure transfer: rank, transfer-check."""

from pathlib import Path
from typing import Annotated

import typer

from multimodal.commands.options import Config, Overrides, read_job_first
from multimodal.console import show_ranking, show_transfer


def rank(
    config: Config,
    overrides: Overrides = None,
    encoders: Annotated[
        list[str] | None, typer.Option("--encoder", metavar="NAME", help="NAME, NAME@random, NAME@WEIGHTS or RUN.")
    ] = None,
    name: Annotated[str | None, typer.Option("--input", metavar="NAME", help="Input that they read.")] = None,
    out: Annotated[Path | None, typer.Option("--out", metavar="FILE.json", help="File for scores and choice.")] = None,
) -> None:
    """Ranks candidate encoders for an input by a cross-validated probe, before anything is trained."""
    read_job_first(config, overrides or ())
    from multimodal.selection.ranking import rank as rank_encoders

    show_ranking(rank_encoders(config, encoders=encoders or (), input=name, overrides=overrides or (), out=out))


def transfer_check(
    config: Config,
    overrides: Overrides = None,
    scratch: Annotated[
        bool, typer.Option("--scratch", help="Also trains the job, as it is and from random weights.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE.json", help="File for arms, gaps, verdicts.")
    ] = None,
) -> None:
    """Compares the encoders' weights with raw features, random weights, and each input alone."""
    read_job_first(config, overrides or ())
    from multimodal.selection.transfer_gap import transfer_check as check_transfer

    show_transfer(check_transfer(config, overrides=overrides or (), scratch=scratch, out=out))
