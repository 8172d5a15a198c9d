"""Registered weights that are on this machine already. Nothing is fetched."""

from encoders.info import EncoderInfo
from encoders.plugins import BUILT_IN
from encoders.weights.download import kept_file

FROM_URL = ("torchvision", "torchaudio")
"""Libraries whose weights ``encoders.weights.download`` keeps as one file each."""


def has_local_weights(info: EncoderInfo) -> bool:
    """True if ``weights="pretrained"`` needs no network: of the package, registered by code, or fetched before.

    Families (``timm/*``, ``transformers/*``) have no weights until one of them is named, so that they are no.
    """
    if not info.has_weights or info.name.endswith("*"):
        return False
    family = info.name.partition("/")[0]
    if info.source == BUILT_IN or family not in FROM_URL:
        return True
    return kept_file(_url(info.name)).is_file()


def _url(name: str) -> str:
    if name.startswith("torchvision/"):
        from encoders.image.torchvision_weights import published_weights

        return str(published_weights(name, None).url)
    from encoders.audio.torchaudio import weights_url

    return weights_url(name)
