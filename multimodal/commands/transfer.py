"""Commands that tell what transfer is worth."""

from pathlib import Path
from typing import Annotated

import typer

from multimodal.commands.options import Config, Overrides
from multimodal.console import say, show_transfer


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
