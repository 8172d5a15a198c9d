"""Catalogue lines that tell a flavour, never the kind of product: the same words for a jam and for a yoghurt."""

import numpy as np

_CUES: dict[str, tuple[str, ...]] = {
    "strawberry": (
        "made with ripe strawberries",
        "the taste of a strawberry field in June",
        "fruity and red, with whole summer berries",
        "strawberry flavour",
        "sweet garden berries, picked by hand",
        "with a third of strawberry purée",
        "berries from small farms in the north",
        "red fruit, gently crushed",
        "a strawberry classic",
        "with pieces of strawberry",
    ),
    "orange": (
        "with sun-ripened oranges",
        "orange flavour",
        "fresh citrus with a little zest",
        "oranges from Valencia",
        "tangy, with bits of peel",
        "bitter oranges, boiled slowly",
        "a lively citrus note",
        "the zest of three oranges",
        "an orange classic",
        "citrus fruit from the south",
    ),
    "chocolate": (
        "rich in cocoa",
        "with dark chocolate",
        "chocolate flavour",
        "real cocoa from Ghana",
        "melts on the tongue, 60 % cocoa",
        "with shavings of milk chocolate",
        "roasted cocoa beans give it depth",
        "for friends of dark cacao",
        "a chocolate classic",
        "velvety chocolate, not too sweet",
    ),
    "oat": (
        "with wholegrain oats",
        "from oats grown nearby",
        "oat based",
        "rolled oats, milled fresh",
        "a bowl of grain in every bite",
        "golden grain, lightly toasted",
        "full of fibre from oats",
        "nothing but oats and a pinch of salt",
        "an oat classic",
        "wholegrain goodness",
    ),
}

_REMARKS = (
    "best before: see base",
    "store in a cool and dry place",
    "no artificial colours",
    "now with a new recipe",
    "our customers' favourite",
    "a limited edition",
    "from the house brand",
    "family size",
    "once opened, use within five days",
    "two for the price of one this week",
    "contains natural flavouring",
    "certified by independent growers",
    "shake or stir before use",
    "suitable for vegetarians",
    "please recycle the packaging",
    "packed in a protective atmosphere",
)
_TRACES = {
    "strawberry": "may contain traces of berries",
    "orange": "may contain traces of citrus",
    "chocolate": "may contain traces of cocoa",
    "oat": "may contain traces of oats",
}
_TRACE_SHARE = 0.06  # of the lines mention another flavour as well, as real labels do

FLAVORS = tuple(_CUES)
"""What a line can tell."""


def write_line(flavor: str, rng: np.random.Generator) -> str:
    """A catalogue line of one of ``FLAVORS``: what tells the flavour, among remarks that tell nothing.

    >>> write_line("oat", np.random.default_rng(11))
    'Shake or stir before use. From oats grown nearby.'

    Raises:
        LookupError: if there is no such flavour.
    """
    if flavor not in _CUES:
        raise LookupError(f"there is no flavour {flavor!r}; there are {', '.join(FLAVORS)}")
    cues = _CUES[flavor]
    parts = [cues[rng.integers(len(cues))]]
    for remark in rng.choice(len(_REMARKS), rng.integers(1, 3), replace=False):
        parts.append(_REMARKS[remark])
    if rng.random() < _TRACE_SHARE:
        other = [name for name in FLAVORS if name != flavor]
        parts.append(_TRACES[other[rng.integers(len(other))]])
    return " ".join(parts[index][0].upper() + parts[index][1:] + "." for index in rng.permutation(len(parts)))
