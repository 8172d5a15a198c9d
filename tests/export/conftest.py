"""One small run, and its bundle, exported once."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from support.bundles import CONFIG, StubRun, make_table, make_three_input_model

from export import Bundle, export_bundle
from multimodal.config import Job
from multimodal.records import read_records


@pytest.fixture(scope="session")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files of ``table``."""
    return tmp_path_factory.mktemp("media")


@pytest.fixture(scope="session")
def table(media: Path) -> list[dict[str, Any]]:
    """Records as a manifest has them."""
    return make_table(media)


@pytest.fixture(scope="session")
def run(table: list[dict[str, Any]], media: Path) -> StubRun:
    """The run that is exported."""
    metrics = {"tasks": {"color": {"n": 9, "accuracy": {"value": 0.9, "low": 0.8, "high": 0.95}, "absent": []}}}
    return StubRun(make_three_input_model(), Job.model_validate(CONFIG), read_records(table, root=media), metrics)


@pytest.fixture(scope="session")
def bundle(run: StubRun, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Its bundle, with embeddings; tests that change it take ``copied``."""
    return export_bundle(run, tmp_path_factory.mktemp("export") / "bundle", embedding=True)


@pytest.fixture
def copied(bundle: Bundle, tmp_path: Path) -> Path:
    """A copy of the bundle, to be damaged."""
    return Path(shutil.copytree(bundle.folder, tmp_path / "bundle"))
