"""How fast a bundle answers beside torch and beside onnxruntime alone: one interleaved run, medians of ratios.

    python benchmarks/inference.py --work FOLDER [--run RUN] [--repeats 15] [--out FILE.json]

Without --run the retail model at production size is made in FOLDER first (ResNet-18 at 224 pixels with random
weights, MiniLM, compact/audio). In each repeat every contender takes its turn, in an order that moves on by one, so
that what else the machine does hits all alike; a ratio is the median over repeats of ratios within one. Nothing else
should run meanwhile. Where there is a CUDA device, the last table is of that.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from inference_model import train_retail, write_records

from export import Predictor, export_bundle
from export.cpu import int8_instructions
from export.half import to_half
from export.predictor import flat_feed
from export.quantize import applicable_recipes, to_int8
from export.session import open_session, planned_device
from multimodal.console import say, show_table
from multimodal.records import InputReader, read_records, stack_inputs
from multimodal.run import Run
from multimodal.run_torch import run_torch
from multimodal.threads import available_cores

MINILM = "transformers/sentence-transformers/all-MiniLM-L6-v2"
CALLS = {1: 10, 32: 1}
"""Batch -> calls a turn, so that a turn is long enough to be timed."""

Contenders = dict[str, Callable[[], object]]


def interleaved(contenders: Contenders, repeats: int, calls: int) -> dict[str, list[float]]:
    """Seconds of a call of each contender, one entry a repeat; all are called twice before."""
    for call in contenders.values():
        call(), call()
    names, found = list(contenders), {name: [] for name in contenders}
    for repeat in range(repeats):
        for name in names[repeat % len(names) :] + names[: repeat % len(names)]:
            begin = time.perf_counter()
            for _ in range(calls):
                contenders[name]()
            found[name].append((time.perf_counter() - begin) / calls)
    return found


def ratio(times: dict[str, list[float]], name: str, over: str) -> float:
    """How many times longer ``name`` takes than ``over``: median of the ratios within each repeat."""
    return statistics.median(a / b for a, b in zip(times[name], times[over], strict=True))


def on_cpu(run: Run, predictor: Predictor, graphs: dict[str, Path], records: Path, batch: int) -> Contenders:
    """Models on arrays that are prepared, and the whole way from files to answers."""
    table = read_records(records)
    rows = [table[index % len(table)] for index in range(batch)]
    whole = [
        {name: _value(row[reader.column], reader, table.root) for name, reader in run.readers.items()} for row in rows
    ]
    readers = {name: InputReader(name, name, reader.preprocessor) for name, reader in run.readers.items()}

    def prepared() -> dict[str, dict[str, np.ndarray]]:
        return stack_inputs(readers, [{name: reader.read(row) for name, reader in readers.items()} for row in whole])

    stacked = prepared()
    feed = flat_feed(stacked)
    compiled = torch.compile(run.model, dynamic=False)
    tensors = {n: {key: torch.from_numpy(array) for key, array in arrays.items()} for n, arrays in stacked.items()}

    def run_compiled() -> object:
        with torch.inference_mode():
            return compiled(tensors)

    sessions = {name: open_session(path, device="cpu") for name, path in graphs.items()}
    found: Contenders = {"torch eager": lambda: run_torch(run.model, stacked), "torch.compile": run_compiled}
    for name, session in sessions.items():
        found[f"onnxruntime {name}"] = lambda session=session: session.run(None, feed)
    found["files: preprocessing + session.run"] = lambda: sessions["fp32"].run(None, flat_feed(prepared()))
    found["files: Predictor"] = lambda: predictor.predict(whole, batch_size=batch)
    return found


def on_cuda(bundle: Path, graphs: dict[str, Path], feed: dict[str, np.ndarray]) -> Contenders:
    """fp32, fp16, and fp16 with CUDA graphs, each through the Predictor's own run."""
    found: Contenders = {}
    for name in ("fp32", "fp16"):
        session = open_session(graphs[name], device="cuda")
        found[f"cuda {name}"] = lambda session=session: session.run(None, feed)
    return found


def _value(cell: str, reader: InputReader, root: Path | None) -> str:
    return str(root / cell) if root is not None and reader.reads_paths else cell


def make_graphs(run: Run, bundle: Path, work: Path, records: Path) -> dict[str, Path]:
    """The bundle's graph, and fp16 and int8 of it for their speed alone: random weights would pass no gate."""
    graph = onnx.load(bundle / "model.onnx")
    table = read_records(records)
    samples = [{name: r.read(table[row], table.root) for name, r in run.readers.items()} for row in range(16)]
    feed = flat_feed(stack_inputs(run.readers, samples))
    paths = {"fp32": bundle / "model.onnx", "fp16": work / "fp16.onnx", "int8": work / "int8.onnx"}
    paths["fp16"].write_bytes(to_half(graph).SerializeToString())
    paths["int8"].write_bytes(to_int8(graph, applicable_recipes(graph)[0], [feed]))
    return paths


def report(times: dict[str, list[float]], batch: int) -> dict[str, Any]:
    """Prints the table of one batch size; gives medians and the ratios that matter, JSON."""
    medians = {name: 1e3 * statistics.median(values) for name, values in times.items()}
    say(f"\nbatch of {batch}")
    rows = [(name, f"{value:.2f}", f"{ratio(times, 'onnxruntime fp32', name):.2f}") for name, value in medians.items()]
    show_table(("contender", "ms", "onnxruntime fp32 / it"), rows)
    ratios = {
        "torch eager / onnxruntime fp32": ratio(times, "torch eager", "onnxruntime fp32"),
        "torch.compile / onnxruntime fp32": ratio(times, "torch.compile", "onnxruntime fp32"),
        "onnxruntime fp32 / int8": ratio(times, "onnxruntime fp32", "onnxruntime int8"),
        "Predictor / preprocessing + session.run": ratio(
            times, "files: Predictor", "files: preprocessing + session.run"
        ),
    }
    show_table(("ratio", "value"), [(name, f"{value:.3f}") for name, value in ratios.items()])
    return {"ms": medians, "ratios": ratios}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--run", type=Path)
    parser.add_argument("--records", type=Path, help="manifest of that run; without it invented ones")
    parser.add_argument("--text-encoder", default=MINILM)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    records = given.records or write_records(given.work / "records", 81)
    folder = given.run or given.work / "run"
    if not (folder / "model.safetensors").is_file():
        train_retail(records, folder, given.text_encoder)
    bundle = given.work / "bundle"
    if not (bundle / "bundle.json").is_file():
        export_bundle(folder, bundle, records=records)
    run = Run(folder)
    graphs = make_graphs(run, bundle, given.work, records)
    cores = available_cores()
    torch.set_num_threads(cores)
    say(f"{cores} cores; 8-bit instructions: {', '.join(int8_instructions()) or 'none'}")
    predictor = Predictor.load(bundle, device="cpu", precision="fp32")
    cpu_graphs = {name: graphs[name] for name in ("fp32", "int8")}
    found = {}
    for batch, calls in CALLS.items():
        contenders = on_cpu(run, predictor, cpu_graphs, records, batch)
        found[str(batch)] = report(interleaved(contenders, given.repeats, calls), batch)
    if planned_device("auto") == "cuda":
        found["cuda"] = _cuda_table(run, bundle, graphs, records, given.repeats)
    if given.out is not None:
        given.out.write_text(json.dumps({"cores": cores, "int8": int8_instructions(), **found}, indent=1) + "\n")


def _cuda_table(run: Run, bundle: Path, graphs: dict[str, Path], records: Path, repeats: int) -> dict[str, Any]:
    table = read_records(records)
    found = {}
    for batch in CALLS:
        samples = [{n: r.read(table[row], table.root) for n, r in run.readers.items()} for row in range(batch)]
        feed = flat_feed(stack_inputs(run.readers, samples))
        times = interleaved(on_cuda(bundle, graphs, feed), repeats, 10)
        found[str(batch)] = {name: 1e3 * statistics.median(values) for name, values in times.items()}
        show_table((f"batch of {batch}", "ms"), [(name, f"{value:.2f}") for name, value in found[str(batch)].items()])
    return found


if __name__ == "__main__":
    main()
