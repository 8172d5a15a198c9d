"""Voice-assisted checkout: a product's photo, its catalogue line, and the quantity that the cashier says.

    python -m multimodal.recipes.retail --data FOLDER --out RUN [--manifest main|hard|missing] [--set a.b=c ...]

FOLDER holds train.csv, val.csv and test.csv (and their _hard and _missing variants) with the columns image, text,
audio, product, category, quantity.
"""

from pathlib import Path

import multimodal as mm
from multimodal.recipes.command import run_recipe


def retail(data: Path, manifest: str = "main") -> mm.Task:
    """Product and category from photo and text, quantity from speech, in one model."""
    suffix = "" if manifest == "main" else f"_{manifest}"
    epochs = 24 if manifest == "hard" else 12  # whole texts are nearly keys: there is less to learn from photos
    train, valid, test = (str(data / f"{split}{suffix}.csv") for split in ("train", "val", "test"))
    return mm.Task(
        name="retail",
        data=mm.Data(train=train, valid=valid, test=test),
        inputs={
            "image": mm.Input(encoder="compact/image", augment=mm.Augment(crop=0.5)),
            "text": mm.Input(encoder="transformers/sentence-transformers/all-MiniLM-L6-v2", frozen=True),
            "audio": mm.Input(encoder="compact/audio", augment=mm.Augment(speed=0.15)),
        },
        # linear heads on the inputs side by side: given the product, photo and text say independent things
        fusion=mm.Fusion(name="concat", dropout=0.3, modality_dropout=0.1),
        tasks={name: mm.Target(label_smoothing=0.1) for name in ("product", "category", "quantity")},
        train=mm.Train(epochs=epochs, batch_size=16, learning_rate=2e-3, weight_decay=0.05),
    )


if __name__ == "__main__":
    run_recipe(retail, choices={"manifest": ("main", "hard", "missing")})
