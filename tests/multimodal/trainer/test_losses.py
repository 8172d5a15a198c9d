import math
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from support.assertions import assert_close
from support.tiny_models import make_dataset, make_model, make_rows
from torch import Tensor

from multimodal.data.dataset import Batch, collate
from multimodal.model import ModelOutput, MultimodalModel
from multimodal.model.heads import ClassificationHead, Head, MultilabelHead, RegressionHead
from multimodal.model.input_heads import UnimodalHeads
from multimodal.trainer.losses import Term, combined_loss, loss_normalizers, loss_terms, task_losses

N, CLASSES = 12, 4
WEIGHTS = {"product": 1.0, "tags": 0.5, "price": 2.0}
CLASS_WEIGHTS = [0.5, 2.0, 1.0, 0.7]


def with_heads(heads: dict[str, Head]) -> MultimodalModel:
    model = make_model()
    return MultimodalModel({name: model.encoder(name) for name in model.input_names}, model.fusion, heads)


def three_heads() -> MultimodalModel:
    heads: dict[str, Head] = {
        "product": ClassificationHead(8, ["a", "b", "c", "d"], label_smoothing=0.1, class_weights=CLASS_WEIGHTS),
        "tags": MultilabelHead(8, ["x", "y", "z"], label_smoothing=0.2, class_weights=[1.0, 3.0, 0.2]),
        "price": RegressionHead(8, mean=10.0, std=4.0),
    }
    return with_heads(heads)


def terms(tasks: Iterable[str]) -> list[Term]:
    return [Term(task) for task in tasks]


def loss_of(
    model: MultimodalModel, output: ModelOutput, batch: Batch, weights: dict[str, float], totals: Tensor
) -> Tensor:
    return combined_loss(task_losses(model, output, batch, list(weights), totals), weights)


def example(seed: int = 0) -> tuple[ModelOutput, Batch]:
    """Random outputs and targets, a third of them unknown."""
    rng = np.random.default_rng(seed)
    outputs = {
        "product": rng.normal(size=(N, CLASSES)),
        "tags": rng.normal(size=(N, 3)),
        "price": rng.normal(size=(N, 1)),
    }
    targets = {
        "product": torch.from_numpy(rng.integers(0, CLASSES, N)),
        "tags": torch.from_numpy(rng.integers(0, 2, (N, 3)).astype(np.float32)),
        "price": torch.from_numpy(rng.normal(10, 4, N)),
    }
    known = {task: torch.from_numpy(rng.random(N) < 2 / 3) for task in targets}
    as_tensors = {task: torch.from_numpy(values).float() for task, values in outputs.items()}
    return ModelOutput(as_tensors, torch.zeros(N, 8), {}, {}), Batch({}, targets, known, list(range(N)), torch.ones(N))


def classification(outputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
    log_p = outputs - np.log(np.exp(outputs).sum(1, keepdims=True))
    losses = -0.9 * log_p[np.arange(N), targets] - 0.1 * log_p.mean(1)
    return losses * np.array(CLASS_WEIGHTS)[targets] / math.log(CLASSES)


def multilabel(outputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
    p, smooth = 1 / (1 + np.exp(-outputs)), 0.8 * targets + 0.1
    losses = -(smooth * np.log(p) + (1 - smooth) * np.log(1 - p))
    return (losses * [1.0, 3.0, 0.2]).mean(1) / math.log(2)


def regression(outputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
    return (outputs[:, 0] - (targets - 10) / 4) ** 2


FORMULAS: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "product": classification,
    "tags": multilabel,
    "price": regression,
}


def float64(tensor: Tensor) -> np.ndarray:
    return tensor.numpy() if tensor.dtype == torch.int64 else tensor.double().numpy()


def test_the_loss_is_the_weighted_sum_of_each_task_s_mean_over_known_records():
    output, batch = example()
    expected = 0.0
    for task, weight in WEIGHTS.items():
        losses = FORMULAS[task](float64(output.outputs[task]), float64(batch.targets[task]))
        expected += weight * losses[batch.known[task].numpy()].mean()
    loss = loss_of(three_heads(), output, batch, WEIGHTS, loss_normalizers([batch], terms(WEIGHTS)))
    assert_close(loss, expected)


def test_a_head_that_knows_nothing_has_the_loss_one():
    # so that unit weights are a fair default
    heads: dict[str, Head] = {
        "product": ClassificationHead(8, ["a", "b", "c", "d"]),
        "tags": MultilabelHead(8, ["x", "y", "z"]),
        "price": RegressionHead(8, mean=10.0, std=4.0),
    }
    model = with_heads(heads)
    _, batch = example()
    prices = batch.targets["price"]
    batch.targets["price"] = (prices - prices.mean()) / prices.std(correction=0) * 4 + 10
    nothing = {"product": torch.zeros(N, CLASSES), "tags": torch.zeros(N, 3), "price": torch.zeros(N, 1)}
    everything = {task: torch.ones(N, dtype=torch.bool) for task in WEIGHTS}
    batch = replace(batch, known=everything)
    for task in WEIGHTS:
        counts = loss_normalizers([batch], terms([task]))
        loss = loss_of(model, ModelOutput(nothing, torch.zeros(N, 8), {}, {}), batch, {task: 1.0}, counts)
        assert_close(loss, 1.0)


def test_a_record_counts_as_much_as_its_weight_says():
    output, batch = example()
    weights = np.linspace(0.0, 2.0, N)
    batch = replace(batch, weights=torch.from_numpy(weights).float())
    model, totals = three_heads(), loss_normalizers([batch], terms(WEIGHTS))
    losses = task_losses(model, output, batch, list(WEIGHTS), totals)
    for task, loss in losses.items():
        known = batch.known[task].numpy()
        every = FORMULAS[task](float64(output.outputs[task]), float64(batch.targets[task]))
        assert_close(loss, np.average(every[known], weights=weights[known]))
    nothing = replace(batch, weights=torch.zeros(N))
    totals = loss_normalizers([nothing], terms(WEIGHTS))
    assert loss_of(model, output, nothing, WEIGHTS, totals).item() == 0


def test_what_an_unknown_label_holds_changes_nothing():
    output, batch = example()
    model, counts = three_heads(), loss_normalizers([batch], terms(WEIGHTS))
    loss = loss_of(model, output, batch, WEIGHTS, counts)
    for task, known in batch.known.items():
        batch.targets[task][~known] = 1
        output.outputs[task][~known] = 7.0
    assert torch.equal(loss_of(model, output, batch, WEIGHTS, counts), loss)


@pytest.mark.parametrize("value", [0.0, 1e4, -1e4])
def test_where_nothing_is_known_the_loss_is_zero_however_extreme_the_outputs(value):
    _, batch = example()
    nothing = {task: torch.zeros(N, dtype=torch.bool) for task in WEIGHTS}
    targets = {task: torch.zeros_like(target) for task, target in batch.targets.items()}
    outputs = {"product": torch.zeros(N, CLASSES), "tags": torch.zeros(N, 3), "price": torch.zeros(N, 1)}
    for tensor in outputs.values():
        tensor[:, 0] = value
    batch = replace(batch, targets=targets, known=nothing)
    counts = loss_normalizers([batch], terms(WEIGHTS))
    assert counts.tolist() == [0, 0, 0]
    loss = loss_of(three_heads(), ModelOutput(outputs, torch.zeros(N, 8), {}, {}), batch, WEIGHTS, counts)
    assert loss.item() == 0


def test_known_labels_are_counted_over_all_parts_in_the_order_of_the_tasks():
    parts = [example(seed)[1] for seed in range(3)]
    counts = loss_normalizers(parts, terms(["price", "product"]))
    assert counts.tolist() == [sum(int(part.known[task].sum()) for part in parts) for task in ("price", "product")]


# --- through the whole model -------------------------------------------------------------------------------------


def batches(folder: Any, model: MultimodalModel, cuts: list[list[int]]) -> list[Batch]:
    data = make_dataset(make_rows(folder, 12, gaps=True), folder, model)
    return [collate([data[0, row] for row in cut], data.readers, data.targets) for cut in cuts]


def gradients(model: MultimodalModel, parts: list[Batch]) -> tuple[float, dict[str, Tensor]]:
    weights = {"color": 1.0, "price": 0.5}
    counts = loss_normalizers(parts, loss_terms(model, list(weights)))
    model.zero_grad(set_to_none=True)
    total = 0.0
    for part in parts:
        loss = loss_of(model, model(part.inputs), part, weights, counts)
        loss.backward()
        total += loss.item()
    grads = {}
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, f"{name} got no gradient"
        grads[name] = parameter.grad.clone()
    return total, grads


def test_the_sum_over_parts_is_the_loss_of_the_whole_and_so_are_its_gradients(tmp_path):
    model = make_model(fusion="gated")
    whole, whole_grads = gradients(model, batches(tmp_path, model, [list(range(12))]))
    # uneven on purpose: the mean of the parts' means would be something else
    total, grads = gradients(model, batches(tmp_path, model, [[5], [0, 1, 2, 3, 4, 6, 7], [8, 9, 10, 11]]))
    assert_close(total, whole)
    for name, grad in grads.items():
        assert_close(grad, whole_grads[name])


@pytest.mark.parametrize("fusion", ["concat", "attention", "gated", "late"])
def test_every_parameter_gets_a_gradient_of_zero_where_no_label_is_known(tmp_path, fusion):
    model = make_model(fusion=fusion)
    part = batches(tmp_path, model, [list(range(12))])[0]
    unknown = {task: torch.zeros_like(known) for task, known in part.known.items()}
    loss, grads = gradients(model, [replace(part, known=unknown)])
    assert loss == 0
    assert all(not grad.any() for grad in grads.values())


@pytest.mark.parametrize("fusion", ["concat", "attention", "gated", "late"])
def test_every_parameter_gets_a_gradient_where_an_input_is_missing_throughout(tmp_path, fusion):
    model = make_model(fusion=fusion)
    # rows 3, 7 and 11 have no image: its encoder takes part with a gradient of zero
    _, grads = gradients(model, batches(tmp_path, model, [[3, 7]]))
    for name, grad in grads.items():
        assert grad.any() != ("image." in name) or name.startswith("fusion."), name
        assert torch.isfinite(grad).all(), name


# --- auxiliary heads ---------------------------------------------------------------------------------------------


def with_unimodal_heads(**options: Any) -> MultimodalModel:
    plain, labels = make_model(), ["blue", "green", "red"]
    return MultimodalModel(
        {name: plain.encoder(name) for name in plain.input_names},
        plain.fusion,
        {"color": ClassificationHead(8, labels)},
        unimodal=UnimodalHeads({"color": {n: ClassificationHead(8, labels) for n in plain.input_names}}, **options),
    )


def test_auxiliary_heads_add_the_loss_of_each_input_over_the_records_that_have_it(tmp_path):
    model = with_unimodal_heads(weight=0.5)
    (batch,) = batches(tmp_path, model, [list(range(12))])
    wanted = loss_terms(model, ["color"])
    assert wanted == [Term("color"), Term("color", "image"), Term("color", "text")]
    counts = loss_normalizers([batch], wanted)
    output = model(batch.inputs)
    loss = loss_of(model, output, batch, {"color": 2.0}, counts)
    known = batch.known["color"]
    expected = torch.zeros(())
    for outputs, rows, weight in (
        (output.outputs["color"], known, 2.0),
        (output.unimodal["color"]["image"], known & batch.inputs["image"]["present"], 1.0),
        (output.unimodal["color"]["text"], known & batch.inputs["text"]["present"], 1.0),
    ):
        expected = expected + weight * torch.nn.functional.cross_entropy(outputs[rows], batch.targets["color"][rows])
    assert_close(loss, expected / math.log(3))
    assert counts.tolist() == [10, 8, 8]  # no color in rows 5 and 11, no image in 3, 7 and 11, no text in 4 and 9


def test_auxiliary_heads_are_silent_outside_training(tmp_path):
    model = with_unimodal_heads().eval()
    (batch,) = batches(tmp_path, model, [[0, 1, 2]])
    assert model(batch.inputs).unimodal == {}


def test_each_input_of_late_fusion_learns_from_its_own_head_alone(tmp_path):
    model = make_model(fusion="late")
    (batch,) = batches(tmp_path, model, [list(range(12))])
    wanted = loss_terms(model, ["color"])
    assert wanted == [Term("color", "image"), Term("color", "text")]
    assert [term.share(model) for term in wanted] == [1.0, 1.0]
    assert loss_normalizers([batch], wanted).tolist() == [8, 8]
    model(batch.inputs).unimodal["color"]["image"].square().sum().backward()
    assert all(parameter.grad.any() for parameter in model.encoder("image").parameters())
    assert not any(parameter.grad.any() for parameter in model.encoder("text").parameters())
