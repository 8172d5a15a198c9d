"""The gate: what it compares on, and that it refuses."""

from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from support.bundles import StubRun, make_three_input_model

from export import Bundle, ParityError
from export.parity import check_parity, compared_subsets, parity_cases
from multimodal.evaluation import run_torch
from multimodal.model import MultimodalModel
from multimodal.records import InputReader


def compare(model: MultimodalModel, onnx_file: Path) -> dict[str, Any]:
    readers = {name: InputReader(name, name, model.encoder(name).preprocessor) for name in model.input_names}
    return check_parity(partial(run_torch, model, embedding=True), onnx_file, readers)


def test_every_batch_size_length_and_combination_is_compared(run: StubRun) -> None:
    cases = list(parity_cases(run.readers))
    sizes = {len(case.batch["text"]["present"]) for case in cases}
    assert {1, 2, 5, 32} <= sizes
    samples = {case.batch["sound"]["waveform"].shape[1] for case in cases}
    assert min(samples) == 800  # 0.1 s, the shortest sound of this preprocessor
    assert max(samples) == 16000  # 2 s, the longest
    tokens = {case.batch["text"]["input_ids"].shape[1] for case in cases}
    assert (min(tokens), max(tokens)) == (1, 8)
    shown = {tuple(name for name in case.batch if case.batch[name]["present"].all()) for case in cases}
    every = [subset for size in (1, 2, 3) for subset in combinations(run.readers, size)]
    assert set(every) <= shown
    mixed = cases[-1].batch
    rows = [tuple(name for name in mixed if mixed[name]["present"][row]) for row in range(len(every))]
    assert rows == every


def test_of_many_inputs_a_choice_of_combinations_is_compared() -> None:
    subsets = compared_subsets("abcdef")
    assert sorted({len(subset) for subset in subsets}) == [1, 2, 5, 6]
    assert len(subsets) == 6 + 15 + 6 + 1


def test_the_report_holds_every_case_and_output(run: StubRun, bundle: Bundle) -> None:
    report = compare(run.model, bundle.path("model.onnx"))
    assert report["passed"] is True
    assert set(report["outputs"]) == {"color", "linear", "price", "embedding"}
    for output in report["outputs"].values():
        assert 0 < output["max_abs"] <= 1e-4
        assert output["std"] > 0.01
    assert report["cases"][3]["sizes"]["photo.pixels"] == [32, 3, 16, 16]


def test_a_doctored_graph_is_refused(run: StubRun, bundle: Bundle, tmp_path: Path) -> None:
    graph = onnx.load(bundle.path("model.onnx"))
    (bias,) = [tensor for tensor in graph.graph.initializer if tensor.name == "model.heads.price.linear.bias"]
    bias.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(bias) + np.float32(3e-4), bias.name))
    onnx.save(graph, tmp_path / "doctored.onnx")
    with pytest.raises(
        ParityError, match=r"14 of 14 comparisons fail, worst .*price 0\.0003.*nothing was written"
    ) as e:
        compare(run.model, tmp_path / "doctored.onnx")
    assert e.value.report["passed"] is False
    assert e.value.report["outputs"]["color"]["max_abs"] < 1e-5


def test_a_model_that_always_says_the_same_is_refused(bundle: Bundle, tmp_path: Path) -> None:
    model = make_three_input_model()
    graph = onnx.load(bundle.path("model.onnx"))
    for tensor in graph.graph.initializer:
        if tensor.name.startswith("model.heads.color.linear.weight"):
            tensor.CopyFrom(numpy_helper.from_array(np.zeros((3, 8), np.float32), tensor.name))
    onnx.save(graph, tmp_path / "constant.onnx")
    torch.nn.init.zeros_(model.heads["color"].linear.weight)
    with pytest.raises(ParityError, match="gives the same color for every record, so comparing it proves nothing"):
        compare(model, tmp_path / "constant.onnx")
