"""How fast a bundle answers beside torch and beside onnxruntime alone: one interleaved run, medians of ratios.

    python benchmarks/inference.py --data FOLDER --work FOLDER [--epochs 5] [--repeats 15] [--out FILE.json]

The retail model at production size (ResNet-18 at 224 pixels, MiniLM, compact/audio) is trained in --work first, on
train.csv and val.csv of --data, and exported in every precision that the gate lets through on test.csv; what is there
already is taken as it is. In each repeat every contender takes its turn, in an order that moves on by one, so that
what else the machine does hits all alike; a ratio is the median over repeats of ratios within one. Nothing else should
run meanwhile. Where there is a CUDA device, the last tables are of that.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from inference_cold import cold_processes
from inference_cuda import cuda_contenders
from inference_model import prepared, train_retail, write_records

from export import Predictor, export_bundle
from export.loading import int8_instructions
from export.parity import ParityError
from export.predictor import flat_feed
from export.session import open_session, planned_device
from multimodal.console import print_line, show_table
from multimodal.evaluation import run_torch
from multimodal.records import read_records
from multimodal.run import Run
from multimodal.runtime.threads import available_cores

MINILM = "transformers/sentence-transformers/all-MiniLM-L6-v2"
CALLS = {1: 40, 32: 2}
"""Batch -> calls a turn: so many that the caches and the spinning threads of the turn before do not count."""
RATIOS = (
    ("torch eager", "onnxruntime fp32"),
    ("torch.compile", "onnxruntime fp32"),
    ("onnxruntime fp32", "onnxruntime int8"),
    ("files: Predictor", "files: preprocessing + session.run"),
    ("torch eager fp16", "onnxruntime fp16"),
    ("torch.compile fp16", "onnxruntime fp16"),
    ("onnxruntime fp32", "onnxruntime fp16"),
    ("onnxruntime fp16", "onnxruntime fp16, CUDA graphs"),
)
"""What is divided by what, where both were measured."""

Contenders = dict[str, Callable[[], object]]
Times = dict[str, list[float]]


def interleaved(contenders: Contenders, repeats: int, calls: int) -> Times:
    """Seconds of a call of each contender, one entry a repeat; the first call of a turn does not count."""
    for call in contenders.values():
        call()
    names, found = list(contenders), {name: [] for name in contenders}
    for repeat in range(repeats):
        for name in names[repeat % len(names) :] + names[: repeat % len(names)]:
            contenders[name]()
            begin = time.perf_counter()
            for _ in range(calls):
                contenders[name]()
            found[name].append((time.perf_counter() - begin) / calls)
    return found


def report(title: str, times: Times) -> dict[str, Any]:
    """Prints medians and ratios; gives them, JSON."""
    medians = {name: 1e3 * statistics.median(values) for name, values in times.items()}
    print_line(f"\n{title}")
    show_table(("contender", "ms"), [(name, f"{value:.2f}") for name, value in medians.items()])
    ratios = {
        f"{name} / {over}": statistics.median(a / b for a, b in zip(times[name], times[over], strict=True))
        for name, over in RATIOS
        if name in times and over in times
    }
    show_table(("ratio", "value"), [(name, f"{value:.3f}") for name, value in ratios.items()])
    return {"ms": medians, "ratios": ratios}


def whole_records(run: Run, manifest: Path, batch: int) -> list[dict[str, str]]:
    """So many records by input, files by their path."""
    table = read_records(manifest)
    columns = {name: (r.column, manifest.parent if r.reads_paths else None) for name, r in run.readers.items()}
    rows = (table[index % len(table)] for index in range(batch))
    return [
        {name: row[column] if root is None else str(root / row[column]) for name, (column, root) in columns.items()}
        for row in rows
    ]


def on_cpu(run: Run, bundle: Path, records: list[dict[str, str]]) -> Contenders:
    """Models on arrays that are prepared, and the whole way from files to answers."""
    preprocessors = {name: reader.preprocessor for name, reader in run.readers.items()}
    stacked = prepared(preprocessors, records)
    feed = flat_feed(stacked)
    torch.compiler.reset()  # what was compiled for another batch would count against its limit of shapes
    compiled = torch.compile(run.model, dynamic=False)
    tensors = {n: {key: torch.from_numpy(array) for key, array in arrays.items()} for n, arrays in stacked.items()}

    def run_compiled() -> object:
        with torch.inference_mode():
            return compiled(tensors)

    predictor = Predictor.load(bundle, device="cpu", precision="fp32")
    models = {name: predictor.bundle.path(file) for name, file in predictor.bundle.models.items()}
    # float16 is for CUDA: CPUs convert it back and forth
    sessions = {name: open_session(path, device="cpu") for name, path in models.items() if name != "fp16"}
    found: Contenders = {"torch eager": lambda: run_torch(run.model, stacked), "torch.compile": run_compiled}
    for name, session in sessions.items():
        found[f"onnxruntime {name}"] = lambda session=session: session.run(None, feed)
    found["files: preprocessing + session.run"] = lambda: sessions["fp32"].run(
        None, flat_feed(prepared(preprocessors, records))
    )
    found["files: Predictor"] = lambda: predictor.predict(records, batch_size=len(records))
    return found


def export_retail(run: Run, judged_on: Path, folder: Path) -> None:
    """Every precision that loses next to nothing on records the run never saw; float32 alone where one is refused."""
    try:
        export_bundle(run, folder, records=judged_on, precision=("fp32", "fp16", "int8"))
    except ParityError as error:
        print_line(f"{error}\nfloat32 alone is measured")
        export_bundle(run, folder, records=judged_on)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="holds train.csv, val.csv and test.csv")
    parser.add_argument("--work", type=Path, required=True, help="takes the run, the bundle and the records; kept")
    parser.add_argument("--text-encoder", default=MINILM, help="or transformers/ and a folder")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    folder, bundle = given.work / "run", given.work / "bundle"
    if not (folder / "model.safetensors").is_file():
        train_retail(given.data, folder, text_encoder=given.text_encoder, epochs=given.epochs)
    run, manifest = Run(folder), write_records(given.work / "records")
    if not (bundle / "bundle.json").is_file():
        export_retail(run, given.data / "test.csv", bundle)
    cores = available_cores()
    torch.set_num_threads(cores)
    print_line(f"{cores} cores; 8-bit instructions: {', '.join(int8_instructions()) or 'none'}")
    found: dict[str, Any] = {"cores": cores, "int8": int8_instructions()}
    for batch, calls in CALLS.items():
        contenders = on_cpu(run, bundle, whole_records(run, manifest, batch))
        found[str(batch)] = report(f"batch of {batch}", interleaved(contenders, given.repeats, calls))
    found["cold"] = cold_processes(bundle, whole_records(run, manifest, 1)[0], given.repeats)
    if planned_device("auto") == "cuda":
        for batch in CALLS:
            contenders = cuda_contenders(run, bundle, whole_records(run, manifest, batch))
            found[f"cuda {batch}"] = report(f"CUDA, batch of {batch}", interleaved(contenders, given.repeats, 40))
    if given.out is not None:
        given.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
