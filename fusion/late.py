"""Late fusion: the inputs stay side by side, for heads of their own."""

from collections.abc import Mapping

from fusion.concat import ConcatFusion


class LateFusion(ConcatFusion):
    """The mean token of each input, normalised and side by side; zeros where a record has no such input.

    It learns nothing: ``multimodal.model.input_heads.LateHead`` has a head per input and adds their answers.

    Args:
        in_dims: dimension of each input, e.g. ``{"image": 512, "text": 384}``.
        dropout: probability of dropping an element while training; None is 0.

    Raises:
        ValueError: if ``in_dims`` is empty or an argument is out of range.
    """

    learns_missing = False

    def __init__(self, in_dims: Mapping[str, int], *, dropout: float | None = None) -> None:
        super().__init__(in_dims, dropout=dropout)
