"""Labels that look the same, or nearly. Never imports torch."""

import difflib
import re
import unicodedata
from collections.abc import Collection, Iterable
from decimal import Decimal
from functools import lru_cache

from multimodal.records.media import quote

MOST_PAIRS = 200_000
"""Pairs of labels whose letters are compared: about one second."""
_LETTERS = str.maketrans(  # Cyrillic and Greek letters that are drawn as Latin ones
    "АВЕКМНОРСТУХІЈЅаеорсухіјѕΑΒΕΖΗΙΚΜΝΟΡΤΥΧο",  # noqa: RUF001  (that they are ambiguous is the point)
    "ABEKMHOPCTYXIJSaeopcyxijsABEZHIKMNOPTYXo",
)
_MARKS = str.maketrans("‘’ʼ“”−", "'''\"\"-")  # noqa: RUF001
_BLANK = "\u034f\u115f\u1160\u2800"
"""Invisible characters of other Unicode categories."""
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d{1,9})?")


@lru_cache(maxsize=1 << 16)
def look(label: str) -> str:
    """Normal form of a label: without case, invisible characters, kinds of spaces, notations of a number.

    >>> look("pe\\u200bar") == look("Pear"), look("red\\u00a0tea") == look("red  tea"), look("1") == look("1.00")
    (True, True, True)
    """
    text = " ".join(unicodedata.normalize("NFKC", label).split())
    shown = (character for character in text if not _is_invisible(character))
    text = "".join("-" if unicodedata.category(character) == "Pd" else character for character in shown)
    text = unicodedata.normalize("NFKC", text.translate(_LETTERS | _MARKS).casefold())
    return _plain_number(text) if _NUMBER.fullmatch(text) else text


def _is_invisible(character: str) -> bool:
    is_selector = "\ufe00" <= character <= "\ufe0f"  # of the variant of the character before it
    return unicodedata.category(character) in ("Cf", "Cc") or is_selector or character in _BLANK


def _plain_number(text: str) -> str:
    sign, digits, exponent = Decimal(text).as_tuple()
    kept = "".join(map(str, digits)).lstrip("0")
    short = kept.rstrip("0")
    return f"{'-' * sign}{short}e{int(exponent) + len(kept) - len(short)}" if short else "0"


def look_alikes(labels: Iterable[str]) -> list[list[str]]:
    """Groups of labels that look the same on a screen.

    >>> look_alikes(["Apple", "pear", "apple", "1", "1.0"])
    [['1', '1.0'], ['Apple', 'apple']]
    """
    groups: dict[str, list[str]] = {}
    for label in sorted(set(labels)):
        groups.setdefault(look(label), []).append(label)
    return [group for group in groups.values() if len(group) > 1]


def nearest_labels(labels: Collection[str], known: Collection[str]) -> dict[str, str]:
    """Label -> the known one that was probably meant, which looks the same or has nearly the same letters.

    Labels with other digits mean other things, however near. Only the first ``MOST_PAIRS`` pairs are compared.

    >>> nearest_labels(["1.0", "Appel", "Fig", "SKU-7"], ["1", "Apple", "Pear", "SKU-8"])
    {'1.0': '1', 'Appel': 'Apple'}
    """
    same: dict[str, str] = {}
    by_digits: dict[str, list[str]] = {}
    for other in known:
        same.setdefault(look(other), other)
        by_digits.setdefault(_digits(other), []).append(other)
    found, left = {}, MOST_PAIRS
    for label in labels:
        candidates = by_digits.get(_digits(label), [])
        near = [same[look(label)]] if look(label) in same else []
        if not near and len(candidates) <= left and not _NUMBER.fullmatch(label):
            left -= len(candidates)
            near = difflib.get_close_matches(label, candidates, n=1, cutoff=0.8)
        if near:
            found[label] = near[0]
    return found


def _digits(label: str) -> str:
    return re.sub(r"\D", "", label)


def told_apart(*labels: str) -> list[str]:
    """Quoted labels that show how they differ: escaped where letters and case do not show it.

    >>> told_apart("Apple", "apple"), told_apart("pear", "pe\\u200bar")
    (["'Apple'", "'apple'"], ["'pear'", "'pe\\\\u200bar'"])
    """
    if len({label.casefold() for label in labels}) == 1:  # case alone
        return [quote(label) for label in labels]
    alike = len({look(label) for label in labels}) == 1
    return [quote(label.encode("ascii", "backslashreplace").decode()) if alike else quote(label) for label in labels]
