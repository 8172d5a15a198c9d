"""ImageNet weights from packages, frozen, on real photos: product and category by linear heads.

    python benchmarks/packaged.py --data FOLDER --image packaged/efficientnet_lite0          # on validation records
    python benchmarks/packaged.py --data FOLDER --image packaged/efficientnet_lite2@320 --manifest hard --text --test

FOLDER is the data set's. Several ``--image`` are several inputs that read the same photo.
"""

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory

import multimodal as mm

TEXT_ENCODER = "transformers/sentence-transformers/all-MiniLM-L6-v2"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--image", nargs="+", default=[], help="NAME or NAME@PIXELS")
    parser.add_argument("--text", action="store_true")
    parser.add_argument("--manifest", choices=["main", "hard"], default="main")
    parser.add_argument("--head", choices=["softmax", "svm", "class_mean", "knn", "linear"], default="softmax")
    parser.add_argument("--fusion", choices=["concat", "late"], default="concat", help="late: for head linear")
    parser.add_argument("--tasks", nargs="+", default=["product", "category"])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--test", action="store_true", help="measures the test records in the place of val")
    given = parser.parse_args()
    ending = "" if given.manifest == "main" else f"_{given.manifest}"
    train, valid, test = (given.data / f"{table}{ending}.csv" for table in ("train", "val", "test"))
    tables = {"train": train, "valid": valid, "test": test if given.test else valid}
    with TemporaryDirectory() as out:
        run = mm.fit(make_job(given), **tables, out=Path(out) / "run")
        scores = run.metrics["tasks"]  # of the kept tokens; run.evaluate would encode every photo anew
    print(*given.image, *["text"] * given.text, given.manifest, given.fusion, given.head, f"seed {given.seed}", end="")
    for task in given.tasks:
        score = scores[task]["accuracy"]
        table = "test" if given.test else "val"
        print(f"; {table} {task} {score['value']:.3f} ({score['low']:.3f} to {score['high']:.3f})", end="")
    print(flush=True)


def make_job(given: argparse.Namespace) -> mm.Job:
    """Every encoder frozen; one head for each task on what they give, with late fusion one for each task and input."""
    inputs = {}
    for number, image in enumerate(given.image):
        encoder, _, size = image.partition("@")
        options = {"image_size": int(size)} if size else {}
        inputs[f"image{number}"] = {"column": "image", "encoder": encoder, "options": options, "frozen": True}
    if given.text:
        inputs["text"] = {"encoder": TEXT_ENCODER, "frozen": True}
    return mm.Job.model_validate(
        {
            "inputs": inputs,
            "fusion": {"name": given.fusion},
            "tasks": {task: {"head": given.head} for task in given.tasks},
            "transfer": {"guard": "off"},
            "train": {"seed": given.seed, "epochs": 30, "learning_rate": 3e-3},
        }
    )


if __name__ == "__main__":
    main()
