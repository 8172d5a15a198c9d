"""Few lengths instead of many, for what wants few shapes. Never imports torch."""


def rounded_length(length: int, longest: int, *, sizes: int, shortest: int = 1) -> int:
    """The next of a few lengths an octave, at least ``shortest`` and at most ``longest``.

    Args:
        length: in tokens or samples; what is above ``longest`` stays as it is.
        sizes: an octave, a power of two: with 2 at most half is added, with 4 at most a quarter.

    >>> [rounded_length(length, 20_000, sizes=4) for length in (1, 9, 17, 100, 16_000)]
    [1, 10, 20, 112, 16384]
    >>> [rounded_length(length, 77, sizes=2, shortest=8) for length in (3, 9, 13, 40, 70)]
    [8, 12, 16, 48, 77]
    """
    wanted = max(length, shortest)
    step = max(1, (1 << wanted.bit_length() - 1) // sizes)  # the octave's first length, in so many parts
    return max(length, min(-(-wanted // step) * step, longest))
