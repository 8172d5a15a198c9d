"""Out of memory: parts get smaller, the batch and what is learnt of it stay."""

import copy
from pathlib import Path

import pytest
import torch
from support.assertions import assert_close
from support.tiny_models import make_dataset, make_model, make_rows

from multimodal.data.dataset import Batch, StepLoader, training_batches
from multimodal.data.order import Order, StepSampler
from multimodal.model import MultimodalModel
from multimodal.runtime.checkpoint import load_newest_checkpoint
from multimodal.runtime.distributed import Processes
from multimodal.trainer import Trainer
from multimodal.trainer.memory import OutOfMemoryError, split
from multimodal.trainer.optimization import build_optimizer
from multimodal.trainer.state import TrainerOptions
from multimodal.trainer.step import Step
from multimodal.transfer.plan import OptimizerSpec
from multimodal.transfer.strategies import Finetune

WEIGHTS = {"color": 1.0, "price": 0.5}


def hold_at_most(model: MultimodalModel, records: int) -> list[int]:
    """Lets the model run out of memory after its encoders have seen a larger part; the list takes part sizes."""
    seen: list[int] = []
    fuse = model.fuse

    def limited(tokens, masks):
        size = len(next(iter(masks.values())))
        seen.append(size)
        if size > records:
            raise torch.OutOfMemoryError("CUDA out of memory (for this test)")
        return fuse(tokens, masks)

    model.fuse = limited
    return seen


def make_step(model: MultimodalModel, **changes) -> Step:
    (phase,) = Finetune().plan(model, 1)
    options = TrainerOptions(clip_norm=None, task_weights=WEIGHTS)
    given = {"options": options, "processes": Processes(), **changes}
    optimizer = build_optimizer(model, phase, OptimizerSpec())
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    return Step(model, optimizer, scaler=scaler, **given)


def one_batch(folder: Path, model: MultimodalModel, size: int = 10) -> Batch:
    data = make_dataset(make_rows(folder, size, gaps=True), folder, model)
    ((batch,),) = training_batches(data, StepSampler(Order(size, size, seed=0), 0, 1))
    return batch


def test_parts_are_cut_in_halves_until_they_fit(tmp_path):
    batch = one_batch(tmp_path, make_model())
    assert split([batch], None) == [batch]
    for most, sizes in ((10, [10]), (5, [5, 5]), (3, [3, 2, 3, 2]), (1, [1] * 10)):
        parts = split([batch], most)
        assert [len(part.rows) for part in parts] == sizes
        assert [row for part in parts for row in part.rows] == batch.rows
        assert torch.equal(
            torch.cat([part.inputs["image"]["pixels"] for part in parts]), batch.inputs["image"]["pixels"]
        )
        assert torch.equal(torch.cat([part.known["price"] for part in parts]), batch.known["price"])
        assert torch.equal(torch.cat([part.weights for part in parts]), batch.weights)


def test_the_effective_batch_stays_what_it_is(tmp_path):
    """Without dropout and BatchNorm, the gradient of the whole batch is that of its parts."""
    whole = make_model()
    small = copy.deepcopy(whole)
    batch = one_batch(tmp_path, whole)
    seen = hold_at_most(small, 3)
    step = make_step(small)
    loss = step([batch], 1e-2, 7)
    assert seen == [10, 5, 3, 2, 3, 2]
    assert step.part_size == 3
    assert_close(loss, make_step(whole)([batch], 1e-2, 7), "rotated")
    for left, right in zip(small.parameters(), whole.parameters(), strict=True):
        assert_close(left.grad, right.grad, "rotated")


def test_a_failed_attempt_leaves_no_trace(tmp_path):
    """Dropout draws anew, BatchNorm forgets what it saw: as if the parts had been small from the start."""
    learnt = make_model(norm="batch", dropout=0.3, modality_dropout=0.3)
    told = copy.deepcopy(learnt)
    batch = one_batch(tmp_path, learnt)
    hold_at_most(learnt, 3)
    steps = make_step(learnt), make_step(told)
    steps[1].part_size = 3
    for step in steps:
        step.model.train()
        step([batch], 1e-2, 7)
    for name, value in learnt.state_dict().items():
        assert torch.equal(value, told.state_dict()[name]), name


def test_later_steps_begin_with_what_fits(tmp_path):
    model = make_model()
    batch = one_batch(tmp_path, model)
    seen = hold_at_most(model, 5)
    step = make_step(model)
    step([batch], 1e-2, 7)
    step([batch], 1e-2, 8)
    assert seen == [10, 5, 5, 5, 5]


def test_a_single_record_that_does_not_fit_says_what_to_try(tmp_path):
    model = make_model()
    hold_at_most(model, 0)
    with pytest.raises(OutOfMemoryError, match="no memory for a single record; take a smaller encoder"):
        make_step(model)([one_batch(tmp_path, model)], 1e-2, 7)


def test_processes_that_train_together_are_told_to_accumulate(tmp_path, monkeypatch):
    model = make_model()
    hold_at_most(model, 5)
    step = make_step(model)
    step.processes = Processes(rank=1, world=2)
    monkeypatch.setattr(Processes, "sum", lambda self, values: values)
    with pytest.raises(
        OutOfMemoryError, match=r"process 1 has no memory for 10 records at a time.*raise train.accumulate"
    ):
        step([one_batch(tmp_path, model)], 1e-2, 7)


def test_the_part_size_outlives_the_process(tmp_path, caplog):

    def trainer(records: int) -> Trainer:
        model = make_model(dropout=0.2)
        hold_at_most(model, records)
        data = make_dataset(make_rows(tmp_path / "media", 10), tmp_path / "media", model)
        order = Order(10, batch_size=5, seed=3)
        return Trainer(model, StepLoader(data, order), tmp_path, options=TrainerOptions(task_weights=WEIGHTS))

    first = trainer(3)
    first.fit(Finetune().plan(first.model, 2))
    assert first.state.part_size == 3
    assert sum("out of memory; from now on at most 3 records at a time" in line for line in caplog.messages) == 1
    checkpoint = load_newest_checkpoint(tmp_path / "checkpoints")
    assert checkpoint is not None
    assert checkpoint.state["trainer"]["part_size"] == 3
    resumed = trainer(100)
    resumed.fit(Finetune().plan(resumed.model, 2), resume=True)
    assert resumed.state.part_size == 3


@pytest.mark.gpu
def test_a_device_that_is_nearly_full_trains_in_smaller_micro_batches(tmp_path):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    model = make_model().to("cuda")
    batch = one_batch(tmp_path, model, 64)
    pixels = batch.inputs["image"]["pixels"]
    step = make_step(model)
    full = torch.cuda.get_device_properties(0).total_memory
    encode = model.encode

    def hungry(inputs):  # a share of the memory for each record, held until the step's backward pass is over
        size = len(next(iter(inputs.values()))["present"])
        held = torch.empty(size * full // 1000, dtype=torch.uint8, device="cuda")
        tokens, masks = encode(inputs)
        return {name: value + 0.0 * held[0] for name, value in tokens.items()}, masks

    model.encode = hungry
    torch.cuda.set_per_process_memory_fraction(0.02)
    try:
        assert torch.isfinite(torch.tensor(step([batch], 1e-2, 7)))
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert step.part_size is not None
    assert step.part_size < len(pixels)
