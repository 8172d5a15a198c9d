"""Registries of parts, of which entry points are tried in test_registry.py with an installed distribution."""

import pytest

from encoders.plugins import BUILT_IN, Registry, built_in


@pytest.fixture
def shapes():
    own = [built_in("fraction", "fractions:Fraction"), built_in("gone", "fractions:Gone"), built_in("path/*", "os:sep")]
    own.append(built_in("needy", "not_there:Part"))
    return Registry("shape", "multimodal.no_such_group", lambda: own)


class Circle:
    pass


class Square:
    pass


def test_a_part_is_loaded_by_name_whether_built_in_or_registered(shapes):
    from fractions import Fraction

    assert shapes.register("mine/circle", "round")(Circle) is Circle
    assert (shapes.load("mine/circle"), shapes.load("fraction")) == (Circle, Fraction)
    assert list(shapes.entries()) == ["fraction", "gone", "path/*", "needy", "mine/circle"]
    assert shapes.find("mine/circle").info == "round"
    assert (shapes.find("mine/circle").distribution, shapes.find("fraction").distribution) == (None, BUILT_IN)


def test_a_family_takes_every_name_that_begins_alike(shapes):
    assert shapes.find("path/x").name == "path/*"
    with pytest.raises(LookupError, match="there is no shape 'path/'"):
        shapes.find("path/")


def test_an_unknown_name_gets_suggestions_or_all_names(shapes):
    with pytest.raises(LookupError, match=r"there is no shape 'fractoin'; did you mean fraction\?"):
        shapes.load("fractoin")
    with pytest.raises(LookupError, match=r"there is no shape 'zzz'; there are fraction, gone, path/\*"):
        shapes.load("zzz")


def test_a_part_of_another_distribution_is_loaded_if_allowed_and_installed(shapes):
    with pytest.raises(LookupError, match=r"the shape 'acme/x' is not installed; run: pip install acme"):
        shapes.load("acme/x", distribution="acme", allowed=["acme/x"])
    with pytest.raises(LookupError, match=r"wants the shape 'acme/x' .* 'acme', which .* allow_plugins=\('acme/x',\)"):
        shapes.load("acme/x", distribution="acme", allowed=[])
    assert shapes.load("fraction", allowed=[])


def test_a_part_that_cannot_be_loaded_names_its_distribution_or_the_package_to_install(shapes):
    with pytest.raises(ImportError, match=r"the shape 'gone' of multimodal-transfer cannot be loaded .*no attr"):
        shapes.load("gone")
    with pytest.raises(ModuleNotFoundError, match=r"not_there is not installed; run: pip install 'mul.*\[train\]'"):
        shapes.load("needy")


def test_a_name_that_is_taken_is_refused_but_a_notebook_may_run_its_cell_again(shapes, monkeypatch):
    shapes.register("mine/circle")(Circle)
    for taken, part in (("mine/circle", Square), ("mine/circle", Circle), ("fraction", Circle)):
        with pytest.raises(ValueError, match=rf"the shape name '{taken}' is taken twice, by .*; rename one of them"):
            shapes.register(taken)(part)
    monkeypatch.setattr(Square, "__module__", "__main__")
    assert shapes.register("mine/square")(Square) is shapes.register("mine/square")(Square)
