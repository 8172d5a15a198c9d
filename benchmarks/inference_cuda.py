"""What answers on a CUDA device: onnxruntime in each precision, and torch in float16."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from inference_model import prepared

from export import Predictor
from export.predictor import flat_feed
from multimodal.run import Run


def cuda_contenders(run: Run, bundle: Path, records: list[dict[str, str]]) -> dict[str, Callable[[], object]]:
    """Each takes arrays that lie on the host and leaves its answers there."""
    stacked = prepared({name: reader.preprocessor for name, reader in run.readers.items()}, records)
    feed = flat_feed(stacked)
    found: dict[str, Callable[[], object]] = {}
    for precision in ("fp32", "fp16"):
        plain = Predictor.load(bundle, device="cuda", precision=precision)
        found[f"onnxruntime {precision}"] = lambda plain=plain: plain.run(feed)
    recorded = Predictor.load(bundle, device="cuda", precision="fp16", acceleration="cuda_graph")
    found["onnxruntime fp16, CUDA graphs"] = lambda: recorded.run(feed)
    model = run.model.to("cuda")
    torch.compiler.reset()
    compiled = torch.compile(model, dynamic=False)
    for name, call in (("torch eager fp16", model), ("torch.compile fp16", compiled)):
        found[name] = lambda call=call: run_half(call, stacked)
    return found


def run_half(model: Callable[..., Any], stacked: dict[str, dict[str, np.ndarray]]) -> dict[str, torch.Tensor]:
    """Outputs of the model in float16 where autocast finds it safe."""
    inputs = {
        name: {key: torch.from_numpy(array).to("cuda") for key, array in arrays.items()}
        for name, arrays in stacked.items()
    }
    with torch.inference_mode(), torch.autocast("cuda", torch.float16):
        outputs = model(inputs).outputs
    return {task: values.float().cpu() for task, values in outputs.items()}
