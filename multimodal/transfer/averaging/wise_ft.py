"""WiSE-FT: between the weights before and after fine-tuning."""

from multimodal.transfer.averaging.states import AveragedState, State, average_states


def wise_ft(start: State, end: State, alpha: float = 0.5) -> AveragedState:
    """(1 - alpha) start + alpha end.

    Wortsman et al. (2022, https://arxiv.org/abs/2109.01903). Choose alpha on validation records; under a shift a
    half is often better than either end.

    When not to use: from a start without a sensible head (of a probe, or zero-shot): below alpha = 1 that is noise.

    Args:
        start: weights before fine-tuning, with their head.
        end: weights after it.
        alpha: 0 gives the start, 1 the end, both bit-exactly.

    Raises:
        ValueError: if alpha is not in 0..1, or the states differ in names or shapes.
    """
    if not 0.0 <= alpha <= 1.0:
        raise ValueError(f"alpha is {alpha}; give 0 (before fine-tuning) to 1 (after it)")
    return average_states([start, end], [1.0 - alpha, alpha])
