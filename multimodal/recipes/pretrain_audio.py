"""A source task for compact/audio: spoken words.

    python -m multimodal.recipes.pretrain_audio --data FOLDER --out RUN [--set a.b=c ...] [--resume]

FOLDER holds train.csv and val.csv with the columns audio and label, as multimodal.recipes.spoken_words writes them. A
later job takes the encoder with ``weights: RUN``, and leaves this job's head behind.
"""

from pathlib import Path

import multimodal as mm
from multimodal.recipes.command import run_recipe


def pretrain_audio(data: Path) -> mm.Task:
    """Which word a clip says, whoever says it."""
    return mm.Task(
        name="pretrain_audio",
        data=mm.Data(train=str(data / "train.csv"), valid=str(data / "val.csv")),
        inputs={"audio": mm.Input(encoder="compact/audio", weights=None, augment=mm.Augment(speed=0.15, noise=0.02))},
        fusion=mm.Fusion(name="concat", dropout=0.2),
        tasks={"label": mm.Target()},
        train=mm.Train(epochs=15, batch_size=32, learning_rate=2e-3, weight_decay=0.05),
    )


if __name__ == "__main__":
    run_recipe(pretrain_audio)
