"""Published weights: fetched once into torch's own cache, and one error where they are not available."""

import http.client
import sys
from pathlib import Path

import torch


def kept_file(url: str) -> Path:
    """Path in torch's own cache (``TORCH_HOME``) of what comes from ``url``."""
    return Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]


def download(url: str, name: str) -> Path:
    """The file at ``url``, kept in torch's own cache folder (``TORCH_HOME``), where one from before is used again.

    Args:
        name: the encoder's, for the error message.

    Raises:
        FileNotFoundError: if it is neither there nor can be fetched; says where it was looked for and what to do.
    """
    path = kept_file(url)
    file_name = path.name
    if path.is_file():
        return path
    digest = torch.hub.HASH_REGEX.search(file_name)  # resnet18-f37072fd.pth
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(path), digest[1] if digest else None, progress=sys.stderr.isatty())
    except (OSError, RuntimeError, http.client.HTTPException) as error:
        raise missing_weights(
            name,
            looked_for=f"{file_name} in {path.parent} (torch's cache, TORCH_HOME); {url} cannot be fetched ({error})",
            cache=str(path),
        ) from error
    return path


def missing_weights(
    name: str, *, looked_for: str, cache: str, make_local: str = "", random: str = ""
) -> FileNotFoundError:
    """Says where they were looked for, and the three ways to get them.

    Args:
        name: the encoder's, as ``create_encoder`` takes it.
        looked_for: the file, every place searched, and why it could not be fetched.
        cache: what to copy from a machine with a network.
        make_local: a command that makes a local folder.
        random: what random weights need.
    """
    made = f", which `{make_local}` makes" if make_local else ""
    return FileNotFoundError(
        f"the pretrained weights of {name} are not on this machine; looked for {looked_for}. There are three ways to "
        f"get them: run `multimodal encoders --download {name}` on a machine with a network, and copy {cache} here; "
        f"give weights=PATH, a local file or folder{made}, or the folder of an earlier run; or give weights=None for "
        f"random ones{random} (in a config, `weights: PATH` or `weights: null`)"
    )
