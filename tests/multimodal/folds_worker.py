"""Cross-validates a small job in as many processes as torchrun started; run by test_cross_validation.py."""

import json
import os
import sys
from pathlib import Path

import torch
from support.known_transfer import color_rows

import multimodal as mm


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    job = mm.Job.model_validate(
        {
            "data": {"workers": 0},
            "inputs": {"text": {"encoder": "compact/text", "weights": None}},
            "fusion": {"name": "concat"},
            "tasks": {"color": {}},
            "train": {"epochs": 1, "batch_size": 8, "device": "cpu"},
        }
    )
    found = mm.cross_validate(job, 2, train=color_rows(36), out=folder / "folds", cache=False)
    (folder / f"rank-{os.environ['RANK']}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
