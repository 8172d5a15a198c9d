"""The command ``serve``, without torch."""

import logging
import os
from typing import Annotated, Literal

import typer

from multimodal.commands.options import AllowPlugin, BundleFolder, Device, Precision
from multimodal.console import print_line

TOKEN_VARIABLE = "MULTIMODAL_TOKEN"
logger = logging.getLogger("export.serving")


def serve(
    bundle: BundleFolder,
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0: all interfaces.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any free port.")] = 8000,
    device: Device = "auto",
    precision: Precision = "auto",
    threads: Annotated[int | None, typer.Option(min=1, help="Threads per operator; default: all cores.")] = None,
    max_batch: Annotated[int, typer.Option(min=1, help="Records per batch; 1: no batching.")] = 32,
    max_wait_ms: Annotated[
        float, typer.Option(min=0, help="Longest wait for records that are still being read.")
    ] = 5.0,
    max_queue: Annotated[int, typer.Option(min=1, help="Records that may wait; further requests get 429.")] = 256,
    timeout: Annotated[float, typer.Option(help="Seconds until a request fails.")] = 10.0,
    drain: Annotated[float, typer.Option(min=0, help="Seconds from SIGTERM until it stops listening.")] = 1.0,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(
            "--allow-host", metavar="NAME[:PORT]", help="Name of this server, or of a proxy before it; may be repeated."
        ),
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the model in /v2/models/NAME.")] = None,
    log_format: Annotated[Literal["plain", "json"], typer.Option(help="json: one object a line.")] = "plain",
    access_log: Annotated[
        bool, typer.Option(help="A line per request, but for successful ones of health and /metrics.")
    ] = True,
    allow_plugin: AllowPlugin = None,
) -> None:
    """Serves a bundle over HTTP, without torch: a page at /, /predict, the Open Inference Protocol at /v2, /metrics.

    If the variable MULTIMODAL_TOKEN is set, requests must carry it as a bearer token.
    """
    from encoders.info import missing_extra

    try:
        from export.serving.logs import log_shown
        from export.serving.readiness import loader
        from export.serving.server import serve as run_server
        from export.serving.settings import LOOPBACK, Settings
    except ModuleNotFoundError as error:
        raise missing_extra(error, "serve") from error
    settings = Settings(
        host=host,
        port=port,
        token=os.environ.get(TOKEN_VARIABLE),
        hosts=tuple(allow_host or ()),
        max_batch=max_batch,
        max_wait_ms=max_wait_ms,
        max_queue=max_queue,
        timeout_seconds=timeout,
        drain_seconds=drain,
        name=name,
    )
    address_line = print_line if log_format == "plain" else logger.info
    with log_shown(log_format, access=access_log):
        if settings.token is None and host not in LOOPBACK:
            logger.warning(
                "anybody who reaches %s may ask; set %s to a token that requests must carry", host, TOKEN_VARIABLE
            )
        run_server(
            bundle,
            settings,
            load=loader(device=device, precision=precision, threads=threads, allow_plugins=allow_plugin or ()),
            listening=lambda address: address_line(f"{address} (ready when the bundle has been checked)"),
        )
