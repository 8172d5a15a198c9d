"""Spoken digits and words by a frozen ``packaged/speech_embedding`` and a head that is computed.

    python benchmarks/speech_embedding.py DATA [--test] [--encoder NAME] [--silence SECONDS]

DATA holds ``grocery/`` with ``train.csv``, ``val.csv``, ``test.csv`` (a digit that somebody says, in ``quantity``) and
the same with ``_voice`` (a word, in ``category``); voices of the three are disjoint. Each recording counts once.
"""

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import pandas as pd

import multimodal as mm

TASKS = {"quantity": "{}.csv", "category": "{}_voice.csv"}
"""Target column -> its tables."""


def recordings(file: Path, target: str) -> pd.DataFrame:
    """The rows of a table, each recording once."""
    rows = pd.read_csv(file, dtype=str).dropna(subset=["audio"])
    return rows.drop_duplicates("audio")[["audio", target]].reset_index(drop=True)


def measure(folder: Path, target: str, audio: dict[str, Any], splits: list[str]) -> None:
    """Trains on the training table and prints errors on the others."""
    tables = {split: recordings(folder / TASKS[target].format(split), target) for split in ["train", *splits]}
    job = mm.Job.model_validate(
        {
            "inputs": {"audio": {**audio, "frozen": True}},
            "fusion": {"name": "concat", "dim": None},
            "tasks": {target: {"type": "classification", "head": "softmax"}},
            "transfer": {"strategy": "linear_probe", "guard": "off"},
        }
    )
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as out:
        run = mm.fit(job, train=tables["train"], valid=tables["val"], root=folder, out=Path(out) / "run")
        seconds = time.monotonic() - began
        for split in splits:
            found = run.predict_table(tables[split].assign(audio=[str(folder / a) for a in tables[split]["audio"]]))
            wrong = int((found[target].to_numpy() != tables[split][target].to_numpy()).sum())
            count = len(tables[split])
            print(f"{target} {split}: {wrong} errors of {count}, accuracy {1 - wrong / count:.4f}, {seconds:.0f} s")


def main() -> None:
    """Measures both."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--test", action="store_true", help="also the test tables")
    parser.add_argument("--encoder", default="packaged/speech_embedding")
    parser.add_argument("--silence", type=float, help="seconds before and after each clip")
    given = parser.parse_args()
    options = {"max_seconds": 4.0} | ({} if given.silence is None else {"silence": given.silence})
    audio = {"encoder": given.encoder, "options": options}
    for target in TASKS:
        measure(given.data / "grocery", target, audio, ["val", *(["test"] if given.test else [])])


if __name__ == "__main__":
    main()
