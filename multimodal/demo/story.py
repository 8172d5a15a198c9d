"""The main job from its data to predictions, with a figure for each step."""

import csv
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import multimodal as mm
from multimodal.console import print_line, show_metrics, show_table
from multimodal.demo.data import DemoData, unpack_demo_data
from multimodal.metrics.intervals import Interval, difference_interval
from multimodal.runtime.files import replacing
from multimodal.runtime.progress import format_seconds

NEW_RECORDS = 5
"""Test records that the torch-free process answers for show."""

_SERVE = """
import json, sys
class NoTorch:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "torchvision", "torchaudio", "transformers"):
            raise ModuleNotFoundError(name + " is hidden from this process")
sys.meta_path.insert(0, NoTorch())
import multimodal as mm
records = mm.read_records(sys.argv[2])
found = mm.Predictor.load(sys.argv[1]).predict(records)
print(json.dumps([{task: [one.label, one.probability] for task, one in record.items()} for record in found]))
"""


def run_demo(folder: Path) -> None:
    """Source task -> transfer -> evaluation -> export -> prediction; finished runs in ``folder`` are kept.

    Args:
        folder: takes ``data/``, the runs ``source/``, ``scratch/`` and ``transfer/``, and ``bundle/``.
    """
    began = time.monotonic()
    print_line("1. Data: drawn products, catalogue lines, synthesised spoken quantities")
    data = unpack_demo_data(folder / "data")
    print_line(f"   {data.folder}; what it looks like: {data.overview}")

    print_line(
        "\n2. Source task: compact/image, which comes with weights from photos, learns drawn things and their patterns"
    )
    source = mm.fit(source_job(data), out=folder / "source", resume=True)

    print_line("\n3. The shop from scratch: every encoder starts at random")
    scratch = mm.fit(shop_job(data, "scratch"), out=folder / "scratch", resume=True)

    print_line(
        "\n4. The shop by transfer: the source head is dropped; every encoder has weights, is frozen, then unfrozen"
    )
    job = shop_job(data, "transfer", image_weights=source.folder)
    transfer = mm.fit(job, out=folder / "transfer", resume=True)

    print_line("\n5. What transfer gave for the same number of epochs, on 240 test records and voices never heard")
    show_table(("task", "from scratch", "by transfer", "gain"), _comparison(scratch.metrics, transfer.metrics))
    print_line("")
    show_metrics(transfer.metrics)

    print_line("\n6. Export: one ONNX file, compared with torch under every combination of inputs")
    bundle = folder / "bundle"
    if not (bundle / "bundle.json").is_file():
        transfer.export(bundle)
    problems = mm.verify_bundle(bundle)
    print_line(f"   {bundle}: {'verified' if not problems else '; '.join(problems)}")

    print_line("\n7. New records, answered by a process that cannot import torch")
    show_table(("product", "quantity", "answered product", "answered quantity"), predict_without_torch(data, bundle))

    print_line(f"\nDone in {format_seconds(time.monotonic() - began)}. Look at:")
    for path in (data.overview, transfer.folder / "metrics.json", bundle / "README.md", bundle / "model.onnx"):
        print_line(f"   {path}")


def source_job(data: DemoData) -> mm.Job:
    """Job that tells the drawn thing and its pattern: two tasks that share one image encoder."""
    return mm.Job(
        name="source",
        data=mm.Data(train=str(data.source), valid=str(data.source_valid)),
        inputs={"image": _image("pretrained")},
        fusion=mm.Fusion(name="concat"),
        tasks={"object": mm.Task(), "pattern": mm.Task()},
        transfer=mm.Transfer(strategy="finetune", encoder_scale=0.5),
        train=mm.Train(epochs=8, learning_rate=2e-3),
    )


def shop_job(data: DemoData, name: str, *, image_weights: Path | None = None) -> mm.Job:
    """Product and category from image and text, quantity from speech; all encoders with weights, or none."""
    image, others, transfer = None, None, mm.Transfer(strategy="finetune")
    if image_weights is not None:
        image, others = str(image_weights.absolute()), "pretrained"
        transfer = mm.Transfer(strategy="probe_then_finetune", probe_epochs=3, encoder_scale=0.5)
    return mm.Job(
        name=name,
        data=mm.Data(train=str(data.train), valid=str(data.valid), test=str(data.test)),
        inputs={
            "image": _image(image),
            "text": mm.Input(encoder="compact/text", weights=others),
            "audio": mm.Input(encoder="compact/audio", weights=others),
        },
        fusion=mm.Fusion(name="concat", dim=128, modality_dropout=0.05),
        tasks={"product": mm.Task(), "category": mm.Task(weight=0.5), "quantity": mm.Task()},
        transfer=transfer,
        train=mm.Train(epochs=20, batch_size=16, learning_rate=2e-3),
    )


def _image(weights: str | None) -> mm.Input:
    # drawn things stand upright and their colour says little: small changes suffice
    augment = mm.Augment(color=0.1, rotation=0.0, crop=0.15)
    return mm.Input(encoder="compact/image", weights=weights, options={"image_size": 64}, augment=augment)


def predict_without_torch(data: DemoData, bundle: Path) -> list[tuple[str, str, str, str]]:
    """A few test records: what they are, and what a process without torch says of them."""
    with data.test.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))[:NEW_RECORDS]
    new = data.folder / "new.csv"
    with replacing(new) as partial, partial.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, ("image", "text", "audio"), extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    command = [sys.executable, "-c", _SERVE, str(bundle), str(new)]
    found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return [
        (row["product"], row["quantity"], _shown(own["product"]), _shown(own["quantity"]))
        for row, own in zip(rows, found, strict=True)
    ]


def _shown(label_and_probability: tuple[str, float]) -> str:
    label, probability = label_and_probability
    return f"{label} ({probability:.2f})"


def _comparison(scratch: dict[str, Any], transfer: dict[str, Any]) -> list[tuple[str, ...]]:
    def accuracy(metrics: dict[str, Any], task: str) -> tuple[float, Interval]:
        estimate = metrics["tasks"][task]["accuracy"]
        return estimate["value"], (estimate["low"], estimate["high"])

    rows = []
    for task in transfer["tasks"]:
        old, new = accuracy(scratch, task), accuracy(transfer, task)
        gain = (new[0] - old[0], difference_interval(old, new))
        rows.append((task, *(f"{value:.3f} ({low:.3f} to {high:.3f})" for value, (low, high) in (old, new, gain))))
    return rows
