"""Products from their catalogue line: a frozen sentence encoder and new heads, the cheapest transfer there is.

    python -m multimodal.recipes.product_text --data FOLDER --out RUN [--set a.b=c ...] [--resume]

FOLDER holds train.csv, val.csv and test.csv with the columns text, product and category.
"""

from pathlib import Path

import multimodal as mm
from multimodal.recipes.command import run_recipe


def product_text(data: Path) -> mm.Job:
    """Product and category from text alone."""
    train, valid, test = (str(data / f"{split}.csv") for split in ("train", "val", "test"))
    return mm.Job(
        name="product_text",
        data=mm.Data(train=train, valid=valid, test=test),
        inputs={"text": mm.Input(encoder="transformers/sentence-transformers/all-MiniLM-L6-v2")},
        fusion=mm.Fusion(name="concat", dim=256),
        tasks={"product": mm.Task(), "category": mm.Task(weight=0.5)},
        transfer=mm.Transfer(strategy="linear_probe"),
        train=mm.Train(epochs=15, batch_size=32, learning_rate=2e-3),
    )


if __name__ == "__main__":
    run_recipe(product_text)
