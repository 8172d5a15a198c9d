"""Labels that read the same, and labels that were probably meant."""

import time
from decimal import Decimal

import pytest

from multimodal.records import class_label
from multimodal.records.spellings import look, look_alikes, nearest_labels, told_apart


@pytest.mark.parametrize(
    ("label", "other"),
    [
        ("Größe", "größe"),
        ("STRASSE", "Straße"),
        ("İstanbul", "i̇stanbul"),
        ("green\u00a0tea", "green tea"),
        ("green\u2009tea", "green  tea"),
        ("green\ttea", "green tea"),
        ("so\u00adap", "soap"),
        ("\ufeffsoap", "soap"),
        ("soap\u200d", "soap"),
        ("soap\u2060", "soap"),
        ("x\u2800", "x"),
        ("ﬁsh", "fish"),
        ("\uff21\uff11", "a1"),
        ("\uff43afé", "CAFE\u0301"),
        ("oil \u2013 olive", "oil - olive"),
        ("baker\u2019s", "baker's"),
        ("\u0441ola", "cola"),
        ("COC\u0391", "coca"),
        ("10", "10.000"),
        ("0.50", ".5"),
        ("-3", "-3.0"),
        ("1000", "1e3"),
        ("007", "7"),
        (str(Decimal("2.50")), "2.5"),
    ],
)
def test_labels_that_read_the_same_have_one_look(label, other):
    assert look(label) == look(other)
    assert look_alikes([label, "something else", other]) == [sorted([label, other])]


@pytest.mark.parametrize(
    ("label", "other"),
    [
        ("pear", "pears"),
        ("cafe", "café"),
        ("resume", "résumé"),
        ("1.01", "1.0"),
        ("-1", "1"),
        ("1.000.000", "1"),
        ("red tea", "redtea"),
        ("12345678901234567890123", "12345678901234567890124"),
        ("1e999999999999", "1"),
        ("v1", "v1.0"),
    ],
)
def test_labels_that_read_differently_do_not(label, other):
    assert look(label) != look(other)
    assert look_alikes([label, other]) == []


@pytest.mark.parametrize(
    ("label", "meant"),
    [
        ("bananna", "banana"),
        ("oarnge", "orange"),
        ("green te", "green tea"),
        ("Oat drink1l", "oat drink 1l"),
        ("ORANGE", "orange"),
        ("2.0", "2"),
    ],
)
def test_the_label_that_was_probably_meant_is_found(label, meant):
    known = ["banana", "orange", "green tea", "oat drink 1l", "2"]
    assert nearest_labels([label], known) == {label: meant}


@pytest.mark.parametrize("label", ["oat drink 2l", "10001", "SKU-4712", "2024-05", "kiwi"])
def test_labels_that_differ_in_their_digits_are_not_meant(label):
    assert nearest_labels([label], ["oat drink 1l", "10002", "SKU-4711", "2024-06", "fig"]) == {}


def test_many_labels_are_compared_within_a_moment():
    labels = [f"{number:04d}".translate(str.maketrans("0123456789", "abcdefghij")) * 3 for number in range(5000)]
    began = time.process_time()
    nearest_labels([f"{label}x" for label in labels], labels)
    look_alikes(labels)
    assert time.process_time() - began < 10


@pytest.mark.parametrize(
    ("labels", "shown"),
    [
        (["Fig", "fig"], ["'Fig'", "'fig'"]),
        (["1", "1.0"], ["'1'", "'1.0'"]),
        (["fig", "f\u200big"], ["'fig'", r"'f\u200big'"]),
        (["café", "cafe\u0301"], [r"'caf\xe9'", r"'cafe\u0301'"]),
        (["cola", "\u0441ola"], ["'cola'", r"'\u0441ola'"]),
        (["größe", "groesse"], ["'größe'", "'groesse'"]),
    ],
)
def test_a_reader_sees_how_labels_differ(labels, shown):
    assert told_apart(*labels) == shown


@pytest.mark.parametrize(
    ("decomposed", "composed"),
    [("Mu\u0308sli", "Müsli"), ("A\u030a", "Å"), ("n\u0303", "ñ"), ("\u1112\u1161\u11ab", "한"), ("\u212b", "Å")],
)
def test_a_class_is_one_however_unicode_writes_it(decomposed, composed):
    assert class_label(decomposed) == class_label(f" {composed} ") == composed


def test_what_unicode_calls_compatible_only_stays_apart():
    assert class_label("ﬁg") == "ﬁg"
