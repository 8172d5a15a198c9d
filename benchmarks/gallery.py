"""Figures of benchmarks/gallery.md: products that the model never saw, enrolled from five photos each.

python benchmarks/gallery.py train ARM --data FOLDER --out RUNS [--seed 0] [--manifest hard] [--epochs 6] ...
python benchmarks/gallery.py score ARM --data FOLDER --out RUNS [--seed 0] [--manifest hard]
python benchmarks/gallery.py speed [--products 10000] [--width 256] [--index exact faiss]

ARM is arcface, supcon or classifier (its fused vector) of photos, all trained; both is ArcFace over photo and text,
with the encoder of the arcface run and a pretrained one of texts, neither trained, and text the same without photos.
16 of the 81 products are held out of training, chosen with the seed.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np

import multimodal as mm
from export.gallery import Gallery, SearchResult
from export.gallery.contents import Contents
from export.gallery.embedded import embed
from export.gallery.refusal import choose_refusal
from export.gallery.source import VectorSource
from multimodal.console import print_line, show_table
from multimodal.records import Records, read_records

HELD_OUT, PHOTOS = 16, 5
TARGETS = {
    "arcface": mm.Task(type="embedding", loss="arcface"),
    "supcon": mm.Task(type="embedding", loss="supcon"),
    "classifier": mm.Task(label_smoothing=0.1),
    "both": mm.Task(type="embedding", loss="arcface"),
    "text": mm.Task(type="embedding", loss="arcface"),
}
FROZEN = ("both", "text")
MINILM = "transformers/sentence-transformers/all-MiniLM-L6-v2"


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


def inputs_of(given: argparse.Namespace) -> dict[str, mm.Input]:
    """What the arm sees, and whose encoder reads it."""
    if given.arm not in FROZEN:
        scale = given.encoder_scale
        return {"image": mm.Input(encoder="compact/image", augment=mm.Augment(crop=0.5), learning_rate_scale=scale)}
    photo = given.out / f"arcface-{given.seed}"
    both = {
        "image": mm.Input(encoder="compact/image", weights=str(photo.resolve()), frozen=True),
        "text": mm.Input(encoder=given.text_encoder, frozen=True),
    }
    return both if given.arm == "both" else {"text": both["text"]}


def train(given: argparse.Namespace) -> None:
    """Trains the arm without the new products, then exports it."""
    epochs, batch_size, learning_rate = (12, 32, 5e-3) if given.arm in FROZEN else (6, 32, 2e-3)
    target = TARGETS[given.arm].model_copy(update={"records_per_label": given.records_per_label})
    job = mm.Job(
        name=given.arm,
        inputs=inputs_of(given),
        fusion=mm.Fusion(name="concat", dropout=0.2),
        tasks={"product": target},
        train=mm.Train(
            epochs=epochs if given.epochs is None else given.epochs,
            batch_size=batch_size if given.batch_size is None else given.batch_size,
            learning_rate=learning_rate if given.learning_rate is None else given.learning_rate,
            weight_decay=0.05,
            seed=given.seed,
        ),
    )
    table, folder = table_of(given, "train"), run_of(given)
    new = new_products(table, given.seed)
    valid = rows_of(table_of(given, "val"), new, others=True)
    run = mm.fit(job, train=rows_of(table, new, others=True), valid=valid, out=folder, resume=True)
    run.export(folder.with_name(f"{folder.name}-bundle"), embedding=given.arm == "classifier")


def table_of(given: argparse.Namespace, split: str) -> Records:
    """A table of the manifest."""
    return read_records(given.data / f"{split}{'' if given.manifest == 'main' else f'_{given.manifest}'}.csv")


def run_of(given: argparse.Namespace) -> Path:
    """The arm's run; photos are the same in every manifest."""
    manifest = f"-{given.manifest}" if given.arm in FROZEN else ""
    groups = "" if given.records_per_label is None else f"-{given.records_per_label}"
    return given.out / f"{given.arm}{groups}{manifest}-{given.seed}"


def score(given: argparse.Namespace) -> None:
    """Enrols the old products, sets the threshold, refuses the new ones, enrols them, finds all: on test photos."""
    train_table, test, folder = table_of(given, "train"), table_of(given, "test"), run_of(given)
    new = new_products(train_table, given.seed)
    shown = few(train_table, PHOTOS, given.seed)
    bundle = mm.Predictor.load(folder.with_name(f"{folder.name}-bundle"))
    vectors = {name: vectors_of(bundle, table) for name, table in (("shown", shown), ("test", test))}
    labels = {name: labels_of(table) for name, table in (("shown", shown), ("test", test))}
    is_new = {name: np.isin(values, list(new)) for name, values in labels.items()}
    valid = table_of(given, "val")
    with tempfile.TemporaryDirectory() as empty:
        gallery = mm.Gallery.open(Path(empty) / "gallery", bundle)
        gallery.add_vectors(labels["shown"][~is_new["shown"]].tolist(), vectors["shown"][~is_new["shown"]])
        hidden = gallery.calibrate(rows_of(valid, new, others=True), "product").refusal
        refusal = gallery.calibrate(valid, "product").refusal
        found = gallery.search_vectors(vectors["test"], k=1)
        nearness = np.array([answer.matches[0].similarity for answer in found])
        known, unknown = nearness[~is_new["test"]], nearness[is_new["test"]]
        measured = choose_refusal(known, unknown, accept=0.95, unknowns="records")
        alone = right(found, labels["test"])
        gallery.add_vectors(labels["shown"][is_new["shown"]].tolist(), vectors["shown"][is_new["shown"]])
        everything = right(gallery.search_vectors(vectors["test"], k=1), labels["test"])
    rows = [
        ("R@1 of old products, before the new ones are enrolled", alone[~is_new["test"]].mean()),
        ("AUROC, old against new", measured.auroc),
        ("FPR at 95 % TPR", measured.false_accepted),
        ("old photos accepted at the threshold set on val", (known >= refusal.threshold).mean()),
        ("new photos accepted at it", (unknown >= refusal.threshold).mean()),
        ("calibrate says, by products of val that training had none of", refusal.false_accepted),
        ("calibrate says, by old products of val, each hidden", hidden.false_accepted),
        ("R@1 of old products, all enrolled", everything[~is_new["test"]].mean()),
        ("R@1 of new products, all enrolled", everything[is_new["test"]].mean()),
        ("the same by the nearest single photo: old", nearest_photo(vectors, labels)[~is_new["test"]].mean()),
        ("the same by the nearest single photo: new", nearest_photo(vectors, labels)[is_new["test"]].mean()),
    ]
    show_table((given.arm, "value"), [(name, f"{value:.3f}") for name, value in rows])


def vectors_of(predictor: mm.Predictor, table: Records) -> np.ndarray:
    """What a gallery takes, [n d]."""
    return embed(predictor, table, predictor.bundle.vector_output()).vectors


def labels_of(table: Records) -> np.ndarray:
    """Product of each record."""
    return np.array([row["product"] for row in table.rows])


def right(found: list[SearchResult], labels: np.ndarray) -> np.ndarray:
    """Whether the nearest product is the true one, whatever the threshold, bool [n]."""
    return np.array([answer.matches[0].label for answer in found]) == labels


def nearest_photo(vectors: dict[str, np.ndarray], labels: dict[str, np.ndarray]) -> np.ndarray:
    """The same by the other rule: the product of the nearest single photo."""
    return labels["shown"][(vectors["test"] @ vectors["shown"].T).argmax(axis=1)] == labels["test"]


def speed(given: argparse.Namespace) -> None:
    """Milliseconds of one query, median of 200, one at a time and in batches of 100."""
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(given.products, given.width)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    source = VectorSource("speed", "0" * 64, "product", given.width)
    contents = Contents(source, {str(product): 1 for product in range(given.products)}, vectors)
    for name in given.index:
        gallery = Gallery(Path("nowhere"), contents, index=name)
        began = time.perf_counter()
        gallery.search_vectors(vectors[:1])
        opened = time.perf_counter() - began
        for size in (1, 100):
            times = []
            for _ in range(200 if size == 1 else 20):
                queries = vectors[rng.integers(given.products, size=size)]
                began = time.perf_counter()
                gallery.search_vectors(queries, k=5)
                times.append(1000 * (time.perf_counter() - began) / size)
            print_line(f"{name}: {np.median(times):.3f} ms a query in batches of {size} (opened in {opened:.2f} s)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    for run in (train, score):
        command = commands.add_parser(run.__name__, help=run.__doc__)
        command.add_argument("arm", choices=[*TARGETS])
        command.add_argument("--data", type=Path, required=True, metavar="FOLDER")
        command.add_argument("--out", type=Path, required=True, metavar="RUNS")
        command.add_argument("--seed", type=int, default=0)
        command.add_argument("--manifest", choices=["main", "hard"], default="main")
        command.add_argument("--epochs", type=int)
        command.add_argument("--batch-size", type=int)
        command.add_argument("--learning-rate", type=float)
        command.add_argument("--encoder-scale", type=float, default=1.0)
        command.add_argument("--records-per-label", type=int)
        command.add_argument("--text-encoder", default=MINILM)
        command.set_defaults(run=run)
    command = commands.add_parser("speed", help=speed.__doc__)
    command.add_argument("--products", type=int, default=10_000)
    command.add_argument("--width", type=int, default=256)
    command.add_argument("--index", nargs="+", choices=["exact", "faiss"], default=["exact"])
    command.set_defaults(run=speed)
    given = parser.parse_args()
    given.run(given)


if __name__ == "__main__":
    main()
