"""packaged/speech_embedding: Google's embedding of spoken words, as two ONNX files that come with a package."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from encoders.info import Weights
from encoders.onnx.description import Description, Stage
from encoders.onnx.encoder import OnnxEncoder, encoder_of_files, only_pretrained, rebuilt
from encoders.weights.package import checked_file

NAME, PACKAGE = "packaged/speech_embedding", "openwakeword==0.5.1"
SHA256 = {
    "melspectrogram.onnx": "ba2b0e0f8b7b875369a2c89cb13360ff53bac436f2895cced9f479fa65eb176f",
    "embedding_model.onnx": "70d164290c1d095d1d4ee149bc5e00543250a7316b59f31d056cff7bd3075c1f",
}
"""The two files that are read; both Apache-2.0. The wake words beside them, which have another licence, are not."""
WINDOW = (76, 8)
"""Frames of 10 ms that a token sees, and those to the next."""
SHORTEST = 512 + (WINDOW[0] - 1) * 160
"""Samples of the first window: its frames see 512 samples each, 160 apart."""
STAGES = (
    Stage("melspectrogram.onnx", std=2.0**-15),  # a waveform in the range of 16-bit integers
    Stage("embedding_model.onnx", mean=-20.0, std=10.0, window=WINDOW),  # decibels / 10 + 2
)
"""As openwakeword 0.5.1 calls them,
https://github.com/dscripka/openWakeWord/blob/v0.5.1/openwakeword/utils.py#L163-L232"""


def speech_embedding(
    *, weights: Weights = None, max_seconds: float = 30.0, silence: float = 0.4, built: dict[str, Any] | None = None
) -> OnnxEncoder:
    """speech_embedding (Lin et al., 2020, https://arxiv.org/abs/2002.01322); a token of 96 for each 80 ms.

    Google's weights (https://tfhub.dev/google/speech_embedding/1), converted by David Scripka. A token sees 0.78 s,
    and what it says depends on where in it a word lies.

    Args:
        weights: "pretrained", the package's.
        max_seconds: what comes later in a clip is cut off.
        silence: seconds before and after each clip, so that windows see a short word in all places.
        built: sizes of an encoder that is rebuilt without the package.

    Raises:
        FileNotFoundError: if the package is not installed; says how to install it.
        ValueError: if its files are not those that are known.
    """
    if built is not None:
        return rebuilt(Path(), built)
    only_pretrained(NAME, weights)
    folder = package_folder()
    for file, sha256 in SHA256.items():
        checked_file(None if folder is None else folder / file, sha256, name=NAME, package=PACKAGE)
    assert folder is not None
    least = max(0.1, SHORTEST / 16_000 - 2 * silence)
    audio = {"kind": "audio", "sample_rate": 16_000, "max_seconds": max_seconds, "min_seconds": least}
    return encoder_of_files(Description(folder, STAGES, audio, "Apache-2.0", silence), folder)


def package_folder() -> Path | None:
    """Folder of the files, in a package of which nothing is imported; None if it is not installed."""
    spec = find_spec("openwakeword")
    return None if spec is None or spec.origin is None else Path(spec.origin).parent / "resources" / "models"


def weights_file() -> Path | None:
    """The file that is there only if the package is installed."""
    folder = package_folder()
    return None if folder is None else folder / STAGES[-1].file
