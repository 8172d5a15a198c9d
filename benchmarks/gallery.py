"""Figures of benchmarks/gallery.md: products that the model never saw, enrolled from five photos each.

python benchmarks/gallery.py train ARM --data FOLDER --out RUNS [--seed 0] [--epochs 12]
python benchmarks/gallery.py score ARM --data FOLDER --out RUNS [--seed 0]
python benchmarks/gallery.py speed [--products 10000] [--width 256]

ARM is arcface, supcon or classifier (its fused vector). 16 of the 81 products are held out of training, chosen with
the seed.
"""

import argparse
from pathlib import Path

import numpy as np

import multimodal as mm
from multimodal.console import say
from multimodal.records import Records, read_records

HELD_OUT, PHOTOS = 16, 5
TARGETS = {
    "arcface": mm.Target(type="embedding", loss="arcface"),
    "supcon": mm.Target(type="embedding", loss="supcon"),
    "classifier": mm.Target(label_smoothing=0.1),
}


def new_products(records: Records, seed: int) -> set[str]:
    """The products that training never sees."""
    products = sorted({row["product"] for row in records.rows})
    return set(np.random.default_rng(seed).choice(products, HELD_OUT, replace=False).tolist())


def rows_of(records: Records, products: set[str], *, others: bool = False) -> Records:
    """The records of these products; with ``others`` those of all others."""
    return records.subset(row for row in range(len(records)) if (records[row]["product"] in products) != others)


def few(records: Records, count: int, seed: int) -> Records:
    """``count`` records of each product, drawn with the seed."""
    labels = np.array([row["product"] for row in records.rows])
    rng = np.random.default_rng(seed)
    rows = [row for label in np.unique(labels) for row in rng.permutation(np.flatnonzero(labels == label))[:count]]
    return records.subset(sorted(rows))


def train(given: argparse.Namespace) -> None:
    """The image encoder from its own weights, everything trained, then exported."""
    image = mm.Input(encoder="compact/image", augment=mm.Augment(crop=0.5), learning_rate_scale=1.0)
    task = mm.Task(
        name=given.arm,
        inputs={"image": image},
        fusion=mm.Fusion(name="concat", dropout=0.2),
        tasks={"product": TARGETS[given.arm]},
        train=mm.Train(
            epochs=given.epochs, batch_size=given.batch_size, learning_rate=2e-3, weight_decay=0.05, seed=given.seed
        ),
    )
    table, folder = read_records(given.data / "train.csv"), given.out / f"{given.arm}-{given.seed}"
    new = new_products(table, given.seed)
    valid = rows_of(read_records(given.data / "val.csv"), new, others=True)
    run = mm.fit(task, train=rows_of(table, new, others=True), valid=valid, out=folder, resume=True, say=say)
    run.export(folder.with_name(f"{folder.name}-bundle"), embedding=given.arm == "classifier")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["train"])
    parser.add_argument("arm", choices=[*TARGETS])
    parser.add_argument("--data", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--out", type=Path, required=True, metavar="RUNS")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--batch-size", type=int, default=32)
    train(parser.parse_args())


if __name__ == "__main__":
    main()
