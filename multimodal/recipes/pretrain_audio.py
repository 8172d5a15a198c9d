"""A source task for compact/audio: spoken words, or clips alone.

    python -m multimodal.recipes.pretrain_audio --data FOLDER --out RUN [--method contrastive] [--set a.b=c ...]

FOLDER holds train.csv and val.csv with the column audio and, for the supervised method, label, as
multimodal.recipes.spoken_words writes them. A later job takes the encoder with ``weights: RUN``, and leaves this job's
head behind.
"""

from pathlib import Path

import multimodal as mm
from multimodal.recipes.command import run_recipe

METHODS = ("supervised", "contrastive")


def pretrain_audio(data: Path, method: str = "supervised") -> mm.Job:
    """Which word a clip says, whoever says it, or which two views are of one clip."""
    tables = mm.Data(train=str(data / "train.csv"), valid=str(data / "val.csv"))
    if method == "contrastive":
        strong = mm.Augment(shift=0.2, gain=12, noise=0.02, speed=0.2, time_mask=0.3, frequency_mask=0.3)
        return mm.Job(
            name="pretrain_audio",
            data=tables,
            inputs={
                "audio": mm.Input(encoder="compact/audio", weights=None, augment=strong),
                "other": mm.Input(column="audio", share="audio", augment=strong),
            },
            fusion=mm.Fusion(name="late"),
            tasks={"match": mm.Task(type="contrastive")},
            transfer=mm.Transfer(strategy="finetune"),
            train=mm.Train(epochs=40, batch_size=128, learning_rate=2e-3, weight_decay=0.05),
        )
    return mm.Job(
        name="pretrain_audio",
        data=tables,
        inputs={"audio": mm.Input(encoder="compact/audio", weights=None, augment=mm.Augment(speed=0.15, noise=0.02))},
        fusion=mm.Fusion(name="concat", dropout=0.2),
        tasks={"label": mm.Task()},
        transfer=mm.Transfer(strategy="finetune"),
        train=mm.Train(epochs=15, batch_size=32, learning_rate=2e-3, weight_decay=0.05),
    )


if __name__ == "__main__":
    run_recipe(pretrain_audio, choices={"method": METHODS})
