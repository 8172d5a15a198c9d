"""Public names: each leads somewhere, means one thing, and is there for every error and every section of a job."""

import ast
import importlib
from pathlib import Path

import pytest

import multimodal as mm
from multimodal.config.section import Section

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("encoders", "fusion", "multimodal", "export")
INTERNAL = {
    "RequestError": "becomes a response of the server",
}
"""Errors that no caller sees -> why."""


@pytest.mark.parametrize("package", PACKAGES)
def test_every_listed_name_leads_somewhere(package):
    module = importlib.import_module(package)
    assert sorted(module.__all__) == dir(module)
    assert len(set(module.__all__)) == len(module.__all__)
    assert all(getattr(module, name) is not None for name in module.__all__)
    with pytest.raises(AttributeError, match=f"module '{package}' has no attribute 'Zzz'; it has {module.__all__[0]}"):
        _ = module.Zzz


def test_a_name_of_two_packages_is_one_object():
    for package in map(importlib.import_module, PACKAGES):
        assert all(getattr(mm, name) is getattr(package, name) for name in set(package.__all__) & set(mm.__all__))


def test_every_error_that_a_caller_sees_is_public():
    defined = {
        node.name
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef) and node.name.endswith("Error") and not node.name.startswith("_")
    }
    assert defined - set(mm.__all__) == set(INTERNAL)


def test_every_section_of_a_job_is_public():
    sections = {section.__name__ for section in Section.__subclasses__()}
    assert {"Job", "Lora", "FeatureMap"} <= sections
    assert sections <= set(mm.__all__)
