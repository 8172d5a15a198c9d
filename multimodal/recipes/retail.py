"""Voice-assisted checkout: a product's photo, its catalogue line, and the quantity that the cashier says.

    python -m multimodal.recipes.retail --data FOLDER --out RUN [--manifest main|hard|missing] [--set a.b=c ...]

FOLDER holds train.csv, val.csv and test.csv (and their _hard and _missing variants) with the columns image, text,
audio, product, category, quantity.
"""

from pathlib import Path

import multimodal as mm
from multimodal.recipes.command import run_recipe


def retail(data: Path, manifest: str = "main") -> mm.Job:
    """Product and category from photo and text, quantity from speech, in one model."""
    suffix = "" if manifest == "main" else f"_{manifest}"
    train, valid, test = (str(data / f"{split}{suffix}.csv") for split in ("train", "val", "test"))
    seen = {"product": ["image", "text"], "category": ["image", "text"], "quantity": ["audio"]}
    smoothing = {"product": 0.05, "category": 0.05, "quantity": 0.1}
    image, speech = mm.Augment(crop=0.5), mm.Augment(speed=0.15)
    return mm.Job(
        name="retail",
        data=mm.Data(train=train, valid=valid, test=test),
        inputs={
            "image": mm.Input(encoder="compact/image", weights=None, learning_rate_scale=0.67, augment=image),
            "text": mm.Input(encoder="transformers/sentence-transformers/all-MiniLM-L6-v2", frozen=True),
            "audio": mm.Input(encoder="compact/audio", weights=None, learning_rate_scale=0.67, augment=speech),
        },
        # given the product, photo and text say independent things: each learns by itself, and their evidence adds up
        fusion=mm.Fusion(name="late", dropout=0.2),
        tasks={name: mm.Task(inputs=seen[name], label_smoothing=smoothing[name]) for name in seen},
        transfer=mm.Transfer(strategy="finetune"),
        train=mm.Train(epochs=24, batch_size=16, learning_rate=3e-3, weight_decay=0.05, metric="product.accuracy"),
    )


if __name__ == "__main__":
    run_recipe(retail, choices={"manifest": ("main", "hard", "missing")})
