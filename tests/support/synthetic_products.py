"""A shop of plain images for tests of embeddings and galleries: a product is a colour, a photo of it is noisy."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

COLORS = {
    "red": (220, 40, 40),
    "green": (40, 200, 60),
    "blue": (40, 60, 220),
    "white": (240, 240, 240),
    "yellow": (230, 220, 40),
    "black": (10, 10, 10),
}
OLD, NEW, UNKNOWN = ("red", "green", "blue", "white"), ("yellow",), ("black",)
"""In training; enrolled afterwards; never enrolled."""

CONFIG: dict[str, Any] = {
    "name": "shop",
    "data": {"workers": 0},
    "inputs": {
        "image": {
            "encoder": "compact/image",
            "weights": None,
            "options": {"image_size": 32},
            "augment": {"enabled": False},
        }
    },
    "fusion": {"name": "concat"},
    "tasks": {"product": {"type": "embedding", "width": 16}},
    "train": {"epochs": 6, "batch_size": 16, "learning_rate": 3e-3},
}


def make_photos(folder: Path, colors: tuple[str, ...], n: int, *, seed: int) -> list[dict[str, str]]:
    """Writes ``n`` photos of each colour; gives their records."""
    folder.mkdir(parents=True, exist_ok=True)
    rng, rows = np.random.default_rng(seed), []
    for color in colors:
        for number in range(n):
            pixels = np.array(COLORS[color]) + rng.integers(-25, 26, (32, 32, 3))
            name = f"{color}-{seed}-{number}.png"
            Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(folder / name)
            rows.append({"image": name, "product": color})
    return rows


def write_table(path: Path, rows: list[dict[str, Any]]) -> Path:
    """The records as a CSV file beside their photos."""
    pd.DataFrame(rows).to_csv(path, index=False)
    return path
