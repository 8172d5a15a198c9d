"""A source task for compact/image: classes of photos, or photos alone. Its run gives weights to any later job.

    python -m multimodal.recipes.pretrain_image --data FOLDER --out RUN [--method contrastive] [--set a.b=c ...]

FOLDER holds train.csv and val.csv with the column image and, for the supervised method, label. A later job takes the
encoder with ``weights: RUN``, and leaves this job's head behind.
"""

from pathlib import Path

import multimodal as mm
from multimodal.recipes.command import run_recipe
from multimodal.recipes.pretraining import METHODS, source_job


def pretrain_image(data: Path, method: str = "supervised") -> mm.Job:
    """Labels of photos, or which two views are of one photo.

    No label smoothing, which makes features transfer worse (https://arxiv.org/abs/1805.08974). Views are cut and
    coloured as strongly as https://arxiv.org/abs/2002.05709 found best, as far as ``mm.Augment`` goes.
    """
    if method == "contrastive":
        strong = mm.Augment(crop=0.9, color=0.8, rotation=10)
        return source_job(data, "image", method, augment=strong, epochs=50)
    return source_job(data, "image", method, augment=mm.Augment(crop=0.7, color=0.4, rotation=15), epochs=100)


if __name__ == "__main__":
    run_recipe(pretrain_image, choices={"method": METHODS})
