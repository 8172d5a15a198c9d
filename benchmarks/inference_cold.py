"""New processes, one after the other: a bundle's first answer, and a session's alone."""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from inference_model import prepared

from export import Predictor
from export.predictor import flat_feed
from multimodal.console import print_line, show_table

_MEMORY = """
line = next(line for line in open("/proc/self/status") if line.startswith("VmRSS"))
print(int(line.split()[1]) * 1024 / 1e6, flush=True)
"""
_BUNDLE = """
import json, sys
from export.predictor import Predictor
folder, precision, record = json.loads(sys.argv[1])
Predictor.load(folder, device="cpu", precision=precision).predict([record])
"""
_SESSION = """
import json, os, sys
import numpy as np, onnxruntime as ort
model, feed = json.loads(sys.argv[1])
options = ort.SessionOptions()
options.intra_op_num_threads = len(os.sched_getaffinity(0))
session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
session.run(None, dict(np.load(feed)))
"""


def cold_processes(bundle: Path, record: dict[str, str], repeats: int) -> dict[str, Any]:
    """Seconds and MB of a process until its first answer: medians, the Predictor and bare sessions in turn.

    A bare session is given arrays that are prepared, checks no hash and reads no file but the model's.
    """
    predictor = Predictor.load(bundle, device="cpu")
    models = {name: file for name, file in predictor.bundle.models.items() if name != "fp16"}
    feed = flat_feed(prepared(predictor.preprocessors, [record]))
    with tempfile.TemporaryDirectory(prefix="multimodal.cold.") as folder:
        arrays = Path(folder) / "feed.npz"
        np.savez(arrays, **feed)
        processes = {}
        for name, file in models.items():
            processes[f"Predictor {name}"] = (_BUNDLE, [str(bundle.resolve()), name, record])
            processes[f"session alone {name}"] = (_SESSION, [str(bundle.resolve() / file), str(arrays)])
        found: dict[str, list[tuple[float, float]]] = {name: [] for name in processes}
        for _ in range(repeats):
            for name, (code, argument) in processes.items():
                # the first leaves the memory free that the second takes: without it the one before would count, too
                _, measured = (_until_answer(code + _MEMORY, json.dumps(argument)) for _ in range(2))
                found[name].append(measured)
    medians = {name: [statistics.median(values) for values in zip(*rows, strict=True)] for name, rows in found.items()}
    print_line("\na new process until its first answer")
    show_table(("process", "s", "MB"), [(name, f"{s:.3f}", f"{mb:.0f}") for name, (s, mb) in medians.items()])
    return {name: {"s": seconds, "resident_mb": mb} for name, (seconds, mb) in medians.items()}


def _until_answer(code: str, argument: str) -> tuple[float, float]:
    begin = time.perf_counter()
    with subprocess.Popen([sys.executable, "-c", code, argument], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        memory = float(process.stdout.readline())
        return time.perf_counter() - begin, memory
