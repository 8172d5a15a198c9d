"""Ten epochs over frozen encoders, four ways side by side: this program, cold and warm, and two loops by hand.

    python benchmarks/frozen_features.py --data FOLDER [--rows 800] [--epochs 10] [--repeats 3] [--plain-epochs 1]

FOLDER holds train.csv of the grocery table. The model: torchvision/resnet18 at 224 px with random weights, MiniLM,
compact/audio, all frozen; concat; product, category and quantity. After one small warm-up (imports, first kernels):

- `first`: `mm.fit` with an empty cache: feature pass, 10 epochs, validation, temperatures, pictures, the run's files;
  without the guard (`transfer.guard: off`), which the loops by hand do not have either;
- `second`: the same with the cache of `first`;
- `guarded`: the same as `second` with the guard, whose random twin of each encoder reads 300 records;
- `by hand`: the plainest loop that encodes once in torch and trains three linear layers on what it keeps;
- `plain`: the plainest loop that encodes every batch anew, `--plain-epochs` of them, shown for all epochs.

Each repeat runs all of them in turn; the best of the repeats is shown, as other work on the machine only ever adds.
Beside seconds on the clock stand those of the processor, all threads together: on a busy machine, with `--threads 1`,
they alone say something.
"""

import argparse
import json
import logging
import os
import platform
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import multimodal as mm
from multimodal.builders.encoders import build_encoders
from multimodal.records import Records, read_records
from multimodal.records.targets import ClassTarget

TEXT = "transformers/sentence-transformers/all-MiniLM-L6-v2"
TASKS = {"product": ["image", "text"], "category": ["image", "text"], "quantity": ["audio"]}
BATCH_SIZE = 32
Times = tuple[float, float]
"""Seconds on the clock, and of the processor."""


def make_job(epochs: int, guard: Literal["auto", "off"] = "off") -> mm.Job:
    return mm.Job(
        name="frozen",
        inputs={
            "image": mm.Input(encoder="torchvision/resnet18", weights=None),
            "text": mm.Input(encoder=TEXT),
            "audio": mm.Input(encoder="compact/audio"),
        },
        fusion=mm.Fusion(name="concat"),
        tasks={name: mm.Task(inputs=inputs) for name, inputs in TASKS.items()},
        transfer=mm.Transfer(strategy="linear_probe", guard=guard),
        train=mm.Train(epochs=epochs, batch_size=BATCH_SIZE),
    )


def by_program(job: mm.Job, rows: list[dict], data: Path, cache: Path) -> None:
    os.environ["MULTIMODAL_CACHE"] = str(cache)
    with tempfile.TemporaryDirectory() as folder:
        mm.fit(job, train=rows, root=data, out=Path(folder) / "run")


class Engines(logging.Handler):
    """Keeps which engine the program chose for each input."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        line = record.getMessage()
        if ": encoded by " in line and line not in self.lines:
            self.lines.append(line)


class ByHand:
    """Encoders, linear heads and an optimizer, with as little around them as possible."""

    def __init__(self, job: mm.Job, records: Records) -> None:
        torch.manual_seed(0)
        self.records, self.inputs = records, list(job.inputs)
        self.encoders = build_encoders(job.inputs, Path())
        for encoder in self.encoders.values():
            encoder.eval().requires_grad_(False)
        widths = [encoder.embed_dim for encoder in self.encoders.values()]
        labels = {name: tuple(sorted({str(row[name]) for row in records.rows})) for name in TASKS}
        targets = {name: ClassTarget(name, known) for name, known in labels.items()}
        self.targets = {
            name: torch.tensor([int(target.read(row)) for row in records.rows]) for name, target in targets.items()
        }
        self.norms = [nn.LayerNorm(width, elementwise_affine=False) for width in widths]
        self.heads = nn.ModuleDict({name: nn.Linear(sum(widths), len(known)) for name, known in labels.items()})
        self.optimizer = torch.optim.AdamW(self.heads.parameters(), lr=1e-3)

    def encode(self, rows: np.ndarray) -> Tensor:
        """Mean tokens of all inputs side by side, [b f]."""
        parts = []
        with torch.inference_mode():
            for name, encoder in self.encoders.items():
                values = [self.records[int(row)][name] for row in rows]
                if name != "text":
                    values = [self.records.root / value for value in values]
                arrays = encoder.preprocessor.stack([encoder.preprocessor(value) for value in values])
                tokens, mask = encoder({key: torch.from_numpy(array) for key, array in arrays.items()})
                parts.append((tokens * mask[:, :, None]).sum(dim=1) / mask.sum(dim=1, keepdim=True))
        normed = [norm(part.clone()) for norm, part in zip(self.norms, parts, strict=True)]
        return torch.cat(normed, dim=1)

    def step(self, features: Tensor, rows: np.ndarray) -> None:
        losses = [F.cross_entropy(head(features), self.targets[name][rows]) for name, head in self.heads.items()]
        self.optimizer.zero_grad()
        torch.stack(losses).sum().backward()
        self.optimizer.step()

    def batches(self, epoch: int) -> Iterator[np.ndarray]:
        order = np.random.default_rng(epoch).permutation(len(self.records))
        yield from np.array_split(order, -(-len(order) // BATCH_SIZE))

    def with_cache(self, epochs: int) -> None:
        rows = np.arange(len(self.records))
        kept = torch.cat([self.encode(part) for part in np.array_split(rows, -(-len(rows) // BATCH_SIZE))])
        for epoch in range(epochs):
            for part in self.batches(epoch):
                self.step(kept[part], part)

    def without_cache(self, epochs: int) -> None:
        for epoch in range(epochs):
            for part in self.batches(epoch):
                self.step(self.encode(part), part)


def seconds(work: Callable[[], None], times: float = 1.0) -> tuple[float, float]:
    """Seconds on the clock and of the processor, so many times over."""
    began, used = time.perf_counter(), time.process_time()
    work()
    return times * (time.perf_counter() - began), times * (time.process_time() - used)


def one_repeat(job: mm.Job, rows: list[dict], given: argparse.Namespace) -> dict[str, Times]:
    records, epochs = read_records(rows, root=given.data), job.train.epochs
    with tempfile.TemporaryDirectory() as cache:
        times = {
            "first": seconds(lambda: by_program(job, rows, given.data, Path(cache))),
            "second": seconds(lambda: by_program(job, rows, given.data, Path(cache))),
            "guarded": seconds(lambda: by_program(make_job(epochs, "auto"), rows, given.data, Path(cache))),
            "by hand": seconds(lambda: ByHand(job, records).with_cache(epochs)),
        }
    if given.plain_epochs:
        share = epochs / given.plain_epochs
        times["plain"] = seconds(lambda: ByHand(job, records).without_cache(given.plain_epochs), share)
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=800)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument(
        "--plain-epochs", type=int, default=1, help="measured epochs of the plain loop; 0 leaves it out"
    )
    parser.add_argument("--out", type=Path, help="takes the times of every repeat as JSON")
    parser.add_argument("--threads", type=int, help="of torch and onnxruntime; left out: as torch chooses")
    given = parser.parse_args()
    if given.threads is not None:
        torch.set_num_threads(given.threads)
    given.data = given.data.resolve()
    table = read_records(given.data / "train.csv")
    chosen = np.linspace(0, len(table) - 1, given.rows).astype(int)
    rows = [dict(table[int(row)]) for row in chosen]
    warm_up = argparse.Namespace(data=given.data, plain_epochs=0)
    one_repeat(make_job(1), rows[:64], warm_up)
    repeats, engines = [], Engines()
    logging.getLogger("multimodal").addHandler(engines)
    logging.getLogger("multimodal").setLevel(logging.INFO)
    for repeat in range(given.repeats):
        repeats.append(one_repeat(make_job(given.epochs), rows, given))
        shown = ", ".join(f"{name} {clock:.2f} s ({used:.2f})" for name, (clock, used) in repeats[-1].items())
        print(f"repeat {repeat + 1}: {shown}", flush=True)
    print("\n".join(engines.lines))
    best = {name: tuple(min(repeat[name][kind] for repeat in repeats) for kind in (0, 1)) for name in repeats[0]}
    print(f"{given.rows} rows, {given.epochs} epochs, {torch.get_num_threads()} threads, torch {torch.__version__}")
    hand = best["by hand"]
    for name, (clock, used) in best.items():
        print(f"{name}\t{clock:.2f} s\t{clock / hand[0]:.2f} of by hand\t{used:.2f} s processor\t{used / hand[1]:.2f}")
    if given.out is not None:
        machine = {"torch": torch.__version__, "python": platform.python_version(), "threads": torch.get_num_threads()}
        given.out.write_text(json.dumps({"repeats": repeats, "best": best, "machine": machine}, indent=1))


if __name__ == "__main__":
    main()
