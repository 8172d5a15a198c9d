"""A source task for compact/audio: spoken words, or clips alone.

    python -m multimodal.recipes.pretrain_audio --data FOLDER --out RUN [--method contrastive] [--set a.b=c ...]

FOLDER holds train.csv and val.csv with the column audio and, for the supervised method, label, as
multimodal.recipes.spoken_words writes them. A later job takes the encoder with ``weights: RUN``, and leaves this job's
head behind.
"""

from pathlib import Path

import multimodal as mm
from multimodal.recipes.command import run_recipe
from multimodal.recipes.pretraining import METHODS, source_job


def pretrain_audio(data: Path, method: str = "supervised") -> mm.Job:
    """Job that learns the word of a clip in any voice, or which two views are of one clip."""
    if method == "contrastive":
        strong = mm.Augment(shift=0.2, gain=12, noise=0.02, speed=0.2, time_mask=0.3, frequency_mask=0.3)
        return source_job(data, "audio", method, augment=strong, epochs=40)
    return source_job(data, "audio", method, augment=mm.Augment(speed=0.15, noise=0.02), epochs=15)


if __name__ == "__main__":
    run_recipe(pretrain_audio, choices={"method": METHODS})
