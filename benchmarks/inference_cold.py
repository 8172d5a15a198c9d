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

from export import Predictor
from export.predictor import flat_feed
from multimodal.console import say, show_table
from multimodal.records import InputReader, stack_inputs

_MEMORY = """
import json
line = next(line for line in open("/proc/self/status") if line.startswith("VmRSS"))
print(json.dumps(int(line.split()[1]) * 1024 / 1e6))
"""
_BUNDLE = """
import json, sys
from export.predictor import Predictor
folder, record = json.loads(sys.argv[1])
Predictor.load(folder, device="cpu").predict([record])
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
    """Seconds and MB of a process until its first answer: medians, the Predictor and the bare session in turn.

    The bare session is given arrays that are prepared, checks no hash and reads no file but the model's.
    """
    predictor = Predictor.load(bundle, device="cpu")
    model = predictor.bundle.path(predictor.bundle.models[predictor.precision])
    readers = {name: InputReader(name, name, entry) for name, entry in predictor.preprocessors.items()}
    feed = flat_feed(stack_inputs(readers, [{name: reader.read(record) for name, reader in readers.items()}]))
    with tempfile.TemporaryDirectory(prefix="multimodal.cold.") as folder:
        np.savez(Path(folder) / "feed.npz", **feed)
        processes = {
            f"Predictor ({predictor.precision})": (_BUNDLE, [str(bundle.resolve()), record]),
            "session alone": (_SESSION, [str(model.resolve()), str(Path(folder) / "feed.npz")]),
        }
        found: dict[str, list[tuple[float, float]]] = {name: [] for name in processes}
        for _ in range(repeats):
            for name, (code, argument) in processes.items():
                begin = time.perf_counter()
                command = [sys.executable, "-c", code + _MEMORY, json.dumps(argument)]
                done = subprocess.run(command, capture_output=True, text=True, check=True)
                found[name].append((time.perf_counter() - begin, float(done.stdout)))
    medians = {name: [statistics.median(values) for values in zip(*rows, strict=True)] for name, rows in found.items()}
    say("\na new process until its first answer")
    show_table(("process", "s", "MB"), [(name, f"{s:.3f}", f"{mb:.0f}") for name, (s, mb) in medians.items()])
    return {name: {"s": seconds, "resident_mb": mb} for name, (seconds, mb) in medians.items()}
