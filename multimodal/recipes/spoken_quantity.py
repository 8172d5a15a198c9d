"""Spoken quantities: which digit a clip says, for speakers that were never heard in training.

    python -m multimodal.recipes.spoken_quantity --data FOLDER --out RUN [--set a.b=c ...] [--resume]

FOLDER holds train.csv, val.csv and test.csv with the columns audio and quantity.
"""

from pathlib import Path

import multimodal as mm
from multimodal.recipes.command import run_recipe


def spoken_quantity(data: Path) -> mm.Job:
    """Quantity from speech alone."""
    train, valid, test = (str(data / f"{split}.csv") for split in ("train", "val", "test"))
    return mm.Job(
        name="spoken_quantity",
        data=mm.Data(train=train, valid=valid, test=test),
        inputs={"audio": mm.Input(encoder="compact/audio", learning_rate_scale=1.0, augment=mm.Augment(speed=0.15))},
        fusion=mm.Fusion(name="concat"),
        tasks={"quantity": mm.Task(label_smoothing=0.1)},
        transfer=mm.Transfer(strategy="finetune"),
        train=mm.Train(epochs=15, batch_size=32, learning_rate=2e-3, weight_decay=0.05),
    )


if __name__ == "__main__":
    run_recipe(spoken_quantity)
