import json
import logging
import math
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load as load_safetensors
from safetensors.torch import save
from support.assertions import full_disk
from support.tiny_models import make_model
from torch import Tensor, nn

from multimodal.runtime.checkpoint import (
    KEEP,
    Checkpoint,
    CheckpointError,
    _digest,
    load_newest_checkpoint,
    load_tensors,
    pack_optimizer,
    save_checkpoint,
    save_tensors,
    unpack_optimizer,
)
from multimodal.runtime.files import UnwritableFileError
from multimodal.trainer.optimization import build_optimizer
from multimodal.transfer.plan import OptimizerSpec, parameter_names
from multimodal.transfer.strategies import Finetune

STATE = {"step": 7, "history": [{"loss": 0.25, "phase": "größe"}], "best": None}


def tensors() -> dict[str, Tensor]:
    """One of each kind that a checkpoint meets: matrices, a scalar, an empty one, other types, a view."""
    generator = torch.Generator().manual_seed(0)
    return {
        "weight": torch.randn(3, 4, generator=generator),
        "half": torch.randn(5, generator=generator).bfloat16(),
        "counter": torch.tensor(12),
        "mask": torch.tensor([True, False]),
        "empty": torch.zeros(0, 3),
        "view": torch.arange(12.0).reshape(3, 4).t(),
        "extreme": torch.tensor([math.inf, -math.inf, math.nan, -0.0]),
    }


def same_bits(left: Tensor, right: Tensor) -> bool:
    left, right = left.contiguous().reshape(-1), right.contiguous().reshape(-1)
    return left.dtype == right.dtype and torch.equal(left.view(torch.uint8), right.view(torch.uint8))


# --- one file ----------------------------------------------------------------------------------------------------


def test_what_is_written_reads_back_bit_by_bit(tmp_path):
    save_tensors(tmp_path / "a.safetensors", tensors(), STATE)
    read, state = load_tensors(tmp_path / "a.safetensors")
    assert state == STATE
    assert set(read) == set(tensors())
    for name, tensor in tensors().items():
        assert read[name].shape == tensor.shape, name
        assert same_bits(read[name], tensor), name


def test_equal_content_gives_equal_bytes_in_any_order(tmp_path):
    items = list(tensors().items())
    for number in range(20):  # often: safetensors would write several entries of metadata in random order
        ordered = dict(items if number % 2 else reversed(items))
        save_tensors(tmp_path / f"{number}.safetensors", ordered, STATE)
    assert len({path.read_bytes() for path in tmp_path.iterdir()}) == 1


def test_the_file_is_plain_safetensors_with_json_and_no_pickle(tmp_path):
    path = tmp_path / "a.safetensors"
    save_tensors(path, tensors(), STATE)
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    assert content[8 : 8 + length].startswith(b'{"__metadata__"')
    assert set(load_safetensors(content)) == set(tensors())
    assert b"PK\x03\x04" not in content  # torch.save writes a zip of pickles


def test_a_parameter_is_saved_without_its_gradient_and_left_as_it_is(tmp_path):
    parameter = nn.Parameter(torch.ones(2, 2))
    save_tensors(tmp_path / "a.safetensors", {"weight": parameter})
    read, state = load_tensors(tmp_path / "a.safetensors")
    assert parameter.requires_grad
    assert not read["weight"].requires_grad
    assert state == {}


def small_file(folder: Path) -> Path:
    path = folder / "small.safetensors"
    save_tensors(path, {"a": torch.tensor([1.5, -2.0]), "b": torch.tensor(3)}, {"step": 7, "note": "x"})
    return path


def test_a_file_cut_off_anywhere_is_torn(tmp_path):
    path = small_file(tmp_path)
    content = path.read_bytes()
    for length in range(len(content)):
        path.write_bytes(content[:length])
        with pytest.raises(CheckpointError, match=r"small.safetensors is (torn|damaged).*take an earlier one"):
            load_tensors(path)


def test_a_flipped_bit_in_any_byte_is_noticed(tmp_path):
    path = small_file(tmp_path)
    content = path.read_bytes()
    for position in range(len(content)):
        flipped = bytearray(content)
        flipped[position] ^= 1 << position % 8
        path.write_bytes(flipped)
        with pytest.raises(CheckpointError, match=r"small.safetensors is (torn|damaged).*copy it again"):
            load_tensors(path)


@pytest.mark.parametrize("more", [b"\0", b"junk" * 100])
def test_a_file_with_something_at_its_end_is_torn(tmp_path, more):
    path = small_file(tmp_path)
    path.write_bytes(path.read_bytes() + more)
    with pytest.raises(CheckpointError, match="is torn"):
        load_tensors(path)


def test_zeros_of_the_right_length_are_noticed(tmp_path):
    # what some file systems leave of a file that was not flushed before the power went
    path = small_file(tmp_path)
    path.write_bytes(bytes(path.stat().st_size))
    with pytest.raises(CheckpointError, match="is torn"):
        load_tensors(path)


def test_a_safetensors_file_of_somebody_else_is_not_taken_for_ours(tmp_path):
    from safetensors.torch import save_file

    save_file({"a": torch.ones(2)}, tmp_path / "a.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match="does not match its digest"):
        load_tensors(tmp_path / "a.safetensors")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(CheckpointError, match=r"nothing.safetensors"):
        load_tensors(tmp_path / "nothing.safetensors")


# --- a folder of checkpoints -------------------------------------------------------------------------------------


def checkpoint(step: int) -> Checkpoint:
    return Checkpoint(step, {"weight": torch.full((4,), float(step))}, {"trainer": {"seen": step}})


def test_only_the_newest_checkpoints_are_kept(tmp_path):
    folder = tmp_path / "checkpoints"
    for step in (5, 10, 200, 1000):
        save_checkpoint(folder, checkpoint(step))
    assert KEEP == 2
    assert sorted(path.name for path in folder.iterdir()) == [
        "step-000000200.safetensors",
        "step-000001000.safetensors",
    ]


def test_the_newest_checkpoint_is_the_one_of_the_last_step(tmp_path):
    for step in (9, 10, 8):
        save_checkpoint(tmp_path, checkpoint(step))
    newest = load_newest_checkpoint(tmp_path)
    assert newest is not None
    assert (newest.step, newest.state) == (10, {"trainer": {"seen": 10}})
    assert newest.tensors["weight"].tolist() == [10.0] * 4


@pytest.mark.parametrize("folder", ["missing", "empty"])
def test_there_may_be_no_checkpoint_yet(tmp_path, folder):
    (tmp_path / "empty").mkdir()
    assert load_newest_checkpoint(tmp_path / folder) is None


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.99])
def test_of_a_torn_checkpoint_the_one_before_is_used_and_it_is_said(tmp_path, caplog, share):
    save_checkpoint(tmp_path, checkpoint(1))
    save_checkpoint(tmp_path, checkpoint(2))
    torn = tmp_path / "step-000000002.safetensors"
    torn.write_bytes(torn.read_bytes()[: int(share * torn.stat().st_size)])
    with caplog.at_level(logging.WARNING):
        newest = load_newest_checkpoint(tmp_path)
    assert newest is not None
    assert newest.step == 1
    assert "step-000000002.safetensors is torn" in caplog.text


def test_if_all_are_torn_there_is_none(tmp_path, caplog):
    for step in (1, 2):
        save_checkpoint(tmp_path, checkpoint(step))
    for path in tmp_path.iterdir():
        path.write_bytes(b"")
    assert load_newest_checkpoint(tmp_path) is None
    assert caplog.text.count("is torn") == 2


def test_a_half_written_file_beside_the_checkpoints_is_not_looked_at(tmp_path):
    save_checkpoint(tmp_path, checkpoint(1))
    (tmp_path / ".step-000000002.safetensors.partial").write_bytes(b"half")
    newest = load_newest_checkpoint(tmp_path)
    assert newest is not None
    assert newest.step == 1


@pytest.mark.parametrize("room", [0, 1, 50, 100, 200])
def test_a_checkpoint_that_finds_no_room_leaves_the_earlier_ones(tmp_path, room):
    for step in (1, 2):
        save_checkpoint(tmp_path, checkpoint(step))
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with full_disk(room), pytest.raises(UnwritableFileError, match=r"step-000000003\.safetensors cannot be written"):
        save_checkpoint(tmp_path, checkpoint(3))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    newest = load_newest_checkpoint(tmp_path)
    assert newest is not None
    assert newest.step == 2


# --- the optimizer -----------------------------------------------------------------------------------------------


def optimizer_of(model: nn.Module, spec: OptimizerSpec) -> torch.optim.Optimizer:
    return build_optimizer(model, Finetune().plan(model, 1)[0], spec)  # type: ignore[arg-type]


def advance(model: nn.Module, optimizer: torch.optim.Optimizer, steps: range) -> None:
    """Steps along gradients that depend on the step and the weights."""
    for step in steps:
        generator = torch.Generator().manual_seed(step)
        for parameter in model.parameters():
            parameter.grad = torch.randn(parameter.shape, generator=generator) + parameter.detach()
        optimizer.step()


@pytest.mark.parametrize(
    "spec", [OptimizerSpec("adamw", 1e-2), OptimizerSpec("sgd", 1e-2), OptimizerSpec("sgd", 1e-2, momentum=0.0)]
)
def test_an_optimizer_that_was_packed_goes_on_bit_by_bit(tmp_path, spec):
    whole = make_model(norm="batch")
    advance(whole, optimizer_of(whole, spec), range(6))

    model = make_model(norm="batch")
    optimizer = optimizer_of(model, spec)
    advance(model, optimizer, range(3))
    save_tensors(tmp_path / "optimizer.safetensors", pack_optimizer(optimizer, parameter_names(model)))
    resumed = make_model(norm="batch", seed=9)
    resumed.load_state_dict(model.state_dict())
    fresh = optimizer_of(resumed, spec)
    unpack_optimizer(fresh, load_tensors(tmp_path / "optimizer.safetensors")[0], resumed)
    advance(resumed, fresh, range(3, 6))

    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_without_its_state_an_optimizer_does_not_go_on_the_same(tmp_path):
    # so that the test above can fail
    whole, other = make_model(), make_model()
    advance(whole, optimizer_of(whole, OptimizerSpec()), range(6))
    advance(other, optimizer_of(other, OptimizerSpec()), range(3))
    advance(other, optimizer_of(other, OptimizerSpec()), range(3, 6))
    assert any(not torch.equal(left, right) for left, right in zip(whole.parameters(), other.parameters(), strict=True))


def test_packed_state_is_a_copy_of_its_own_once_it_is_unpacked():
    model = make_model()
    optimizer = optimizer_of(model, OptimizerSpec())
    advance(model, optimizer, range(1))
    packed = {name: value.clone() for name, value in pack_optimizer(optimizer, parameter_names(model)).items()}
    before = {name: value.clone() for name, value in packed.items()}
    unpack_optimizer(optimizer, packed, model)
    advance(model, optimizer, range(2))
    assert all(torch.equal(packed[name], before[name]) for name in packed)


def test_packed_names_are_those_of_the_parameters():
    model = make_model()
    optimizer = optimizer_of(model, OptimizerSpec())
    assert pack_optimizer(optimizer, parameter_names(model)) == {}
    advance(model, optimizer, range(1))
    packed = pack_optimizer(optimizer, parameter_names(model))
    kinds = ("step", "exp_avg", "exp_avg_sq")
    assert set(packed) == {f"{name}:{kind}" for name, _ in model.named_parameters() for kind in kinds}


def test_state_of_a_parameter_that_the_model_lacks_is_refused():
    model = make_model()
    packed: dict[str, Any] = {"heads.brand.linear.weight:exp_avg": torch.zeros(1)}
    with pytest.raises(CheckpointError, match=r"'heads.brand.linear.weight', not in this model; continue with the"):
        unpack_optimizer(optimizer_of(model, OptimizerSpec()), packed, model)


def test_names_of_an_earlier_version_become_todays(tmp_path):
    given = {
        "fusion.marks.photo": "fusion.modality_embeddings.photo",
        "optimizer.fusion.marks.photo:exp_avg": "optimizer.fusion.modality_embeddings.photo:exp_avg",
        "model.heads.color.trusts": "model.heads.color.expert_weights",
        "encoders.fusion.marks.weight": "encoders.fusion.marks.weight",
        "fusion.missing.trusts": "fusion.missing.trusts",  # an input of that name
    }
    save_tensors(tmp_path / "new.safetensors", {name: torch.zeros(1) for name in given})
    assert load_tensors(tmp_path / "new.safetensors")[0].keys() == given.keys()

    tensors = {name: torch.zeros(1) for name in given}
    metadata = {"sha256": _digest(tensors, "{}"), "state": "{}"}
    (tmp_path / "old.safetensors").write_bytes(save(tensors, metadata={"multimodal": json.dumps(metadata)}))
    assert load_tensors(tmp_path / "old.safetensors")[0].keys() == set(given.values())
