"""Commands that list encoders and devices."""

from typing import Annotated

import typer

from multimodal.console import print_line, show_table


def encoders(
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME]...", show_default=False)] = None,
    modality: Annotated[str | None, typer.Option(help="image, text or audio.")] = None,
    download: Annotated[bool, typer.Option("--download", help="Fetches the weights of every NAME.")] = False,
    tower: Annotated[str | None, typer.Option(help="With --download: tower of CLIP, SigLIP or CLAP.")] = None,
) -> None:
    """Lists all encoders, or the named ones, with licence and source; --download fetches their weights."""
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
    show_table(("name", "modality", "dim", "parameters", "source", "licence", "paper"), rows)


def _download(names: list[str], options: dict[str, str]) -> None:
    """Builds each encoder once, which leaves its weights in the library's own cache."""
    from encoders import create_encoder

    if not names:
        raise typer.BadParameter("name the encoders to fetch, for example torchvision/resnet18", param_hint="NAME")
    for name in names:
        encoder = create_encoder(name, weights="pretrained", **options)
        print_line(f"{name}: on this machine; sha256 {encoder.provenance.sha256}, licence {encoder.provenance.licence}")


def doctor() -> None:
    """Shows versions and devices, and what onnxruntime really runs on."""
    from export.session import describe_device
    from multimodal.doctor import report

    show_table(("what", "found"), report(describe_device()))
