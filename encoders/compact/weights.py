"""The weights that ship with the package: ``weights/<modality>.safetensors``, each with a card beside it."""

from pathlib import Path

from encoders.base import Encoder, Provenance
from encoders.weights.state import load_state

FOLDER = Path(__file__).with_name("weights")
LICENCE = "Apache-2.0"
"""Of the weights; the cards name their training data, with the licence of each."""


def load_weights(encoder: Encoder, weights: str | Path | None) -> None:
    """Loads a state_dict file, or with "pretrained" the file of the package; None leaves the weights random.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it does not fit, as where ``width`` is not that of the package's weights.
    """
    if weights is None:
        return
    if weights != "pretrained":
        encoder.provenance = Provenance(str(weights), load_state(encoder, Path(weights)))
        return
    try:
        digest = load_state(encoder, FOLDER / f"{encoder.modality}.safetensors")
    except ValueError as error:
        raise ValueError(
            f"compact/{encoder.modality} has weights for its own width alone; leave width out, or set weights to null "
            "for random ones"
        ) from error
    encoder.provenance = Provenance("pretrained", digest, LICENCE)
