"""Encoders with weights of their own, and a shop to train them on."""

from pathlib import Path

import pytest
from support.tiny_pretrained import plant, write_shop


@pytest.fixture
def planted_encoders(monkeypatch: pytest.MonkeyPatch) -> None:
    """``planted/words``, ``planted/picture`` and ``planted/small``, and no other registered ones."""
    plant(monkeypatch)


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with tables and images, which tests read and do not change."""
    return write_shop(tmp_path_factory.mktemp("shop"))
