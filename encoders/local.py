"""Registered weights that are on this machine already. Nothing is fetched."""

from pathlib import Path

from encoders.info import EncoderInfo
from encoders.plugins import BUILT_IN
from encoders.weights.download import kept_file

FROM_FILES = ("torchvision", "torchaudio", "packaged")
"""Families whose weights are one file each: of a package, or kept by ``encoders.weights.download``."""


def has_local_weights(info: EncoderInfo) -> bool:
    """True if ``weights="pretrained"`` needs no network: ours, registered by code, installed, or fetched before.

    Families (``timm/*``, ``transformers/*``) have no weights until one of them is named, so that they are no.
    """
    if not info.has_weights or info.name.endswith("*"):
        return False
    if info.source == BUILT_IN or info.name.partition("/")[0] not in FROM_FILES:
        return True
    path = _file(info.name)
    return path is not None and path.is_file()


def _file(name: str) -> Path | None:
    if name == "packaged/speech_embedding":
        from encoders.onnx.speech_embedding import weights_file as file_of_speech

        return file_of_speech()
    if name.startswith("packaged/"):
        from encoders.image.packaged import weights_file

        return weights_file(name)
    if name.startswith("torchvision/"):
        from encoders.image.torchvision_weights import published_weights

        return kept_file(str(published_weights(name, None).url))
    from encoders.audio.torchaudio import weights_url

    return kept_file(weights_url(name))
