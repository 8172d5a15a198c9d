import json
from pathlib import Path

import numpy as np
import pytest
from support.assertions import full_disk

from multimodal.features.token_store import TokenStore


def tokens(length: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(length, 4)).astype(np.float32)


@pytest.mark.parametrize("on_disk", [True, False])
def test_tokens_come_back_by_their_key(on_disk, tmp_path):
    store = TokenStore(tmp_path if on_disk else None)
    store.add({"a": tokens(3), "b": tokens(1, seed=1)})
    store.add({"c": tokens(2, seed=2)})
    assert len(store) == 3
    assert "b" in store
    assert "d" not in store
    assert np.array_equal(store["a"], tokens(3))
    assert np.array_equal(store["c"], tokens(2, seed=2))
    assert store.num_bytes == 6 * 4 * 4


def test_another_process_finds_what_was_added(tmp_path):
    TokenStore(tmp_path).add({"a": tokens(3)})
    assert np.array_equal(TokenStore(tmp_path)["a"], tokens(3))


def test_tokens_on_disk_are_mapped_into_memory_not_read(tmp_path):
    store = TokenStore(tmp_path)
    store.add({"a": tokens(3)})
    assert isinstance(store["a"], np.memmap)


def damage_index(folder: Path) -> None:
    next(folder.glob("*.json")).write_text("{")


def damage_tokens(folder: Path) -> None:
    path = next(folder.glob("*.npy"))
    path.write_bytes(path.read_bytes()[:-8])


def lose_tokens(folder: Path) -> None:
    next(folder.glob("*.npy")).unlink()


def point_outside(folder: Path) -> None:
    next(folder.glob("*.json")).write_text(json.dumps({"a": [0, 99]}))


def forget_index(folder: Path) -> None:
    next(folder.glob("*.json")).unlink()


@pytest.mark.parametrize("damage", [damage_index, damage_tokens, lose_tokens, point_outside, forget_index])
def test_a_damaged_shard_is_as_if_it_were_not_there(damage, tmp_path):
    TokenStore(tmp_path).add({"a": tokens(3)})
    damage(tmp_path)
    store = TokenStore(tmp_path)
    assert len(store) == 0
    store.add({"a": tokens(3)})
    assert np.array_equal(TokenStore(tmp_path)["a"], tokens(3))


def test_an_array_that_would_run_code_is_not_opened(tmp_path):
    TokenStore(tmp_path).add({"a": tokens(3)})
    np.save(next(tmp_path.glob("*.npy")), np.array([[print]], dtype=object), allow_pickle=True)
    assert len(TokenStore(tmp_path)) == 0


@pytest.mark.parametrize("room", [0, 100, 150, 800, 1100])
def test_what_finds_no_room_on_disk_stays_in_memory(tmp_path, room):
    """Of 144 and 1088 bytes for the arrays, and some for where each value's tokens are."""
    store = TokenStore(tmp_path)
    store.add({"a": tokens(1)})
    with full_disk(room):
        store.add({"b": tokens(60, seed=1)})
    store.add({"c": tokens(2, seed=2)})
    assert np.array_equal(store["a"], tokens(1))
    assert np.array_equal(store["b"], tokens(60, seed=1))
    assert np.array_equal(store["c"], tokens(2, seed=2))
    assert (store.failure is None) == (room == 1100)
    found = TokenStore(tmp_path)
    assert len(found) == (3 if room == 1100 else 1)
    assert np.array_equal(found["a"], tokens(1))
