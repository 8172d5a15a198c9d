"""A source task for compact/image: classes of photos. Its run gives weights to any later job.

    python -m multimodal.recipes.pretrain_image --data FOLDER --out RUN [--set a.b=c ...] [--resume]

FOLDER holds train.csv and val.csv with the columns image and label. A later job takes the encoder with
``weights: RUN``, and leaves this job's head behind.
"""

from pathlib import Path

import multimodal as mm
from multimodal.recipes.command import run_recipe


def pretrain_image(data: Path) -> mm.Task:
    """Labels of photos. No label smoothing, which makes features transfer worse (https://arxiv.org/abs/1805.08974)."""
    image = mm.Input(encoder="compact/image", weights=None, augment=mm.Augment(crop=0.7, color=0.4, rotation=15))
    return mm.Task(
        name="pretrain_image",
        data=mm.Data(train=str(data / "train.csv"), valid=str(data / "val.csv")),
        inputs={"image": image},
        fusion=mm.Fusion(name="concat", dropout=0.2),
        tasks={"label": mm.Target()},
        train=mm.Train(epochs=40, batch_size=32, learning_rate=2e-3, weight_decay=0.05),
    )


if __name__ == "__main__":
    run_recipe(pretrain_image)
