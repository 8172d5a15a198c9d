"""A table of spoken words, synthesised with espeak-ng: the source task of compact/audio.

    python -m multimodal.recipes.spoken_words --out FOLDER [--clips 60]

Every word in many voices, accents, speeds and pitches; equal arguments give equal files with the same espeak-ng.
Writes train.csv and val.csv (other voices) with the columns audio and label. The ten digits are left out: they are a
common target.
"""

import argparse
import csv
import re
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile
import soxr

from multimodal.console import print_error, print_line
from multimodal.runtime.files import replacing

WORDS = re.findall(
    r"\w+",
    """
    yes no stop go left right up down on off start end open close more less new old big small red green blue black
    white yellow apple bread water milk coffee sugar salt fish meat rice egg cheese butter house door window table
    chair bed book paper pen phone music light dark day night morning evening week month year sun moon rain snow
    wind fire tree flower grass dog cat bird horse cow mother father sister brother friend name hand foot head eye
    ear nose mouth arm heart city street car train bus bike plane ship road bridge river lake mountain sea island
    school work money price shop market order add remove next last first second third ten eleven twelve twenty
    hundred thousand half dozen kilo gram litre metre bottle box bag cup glass plate knife fork spoon help please
    thanks sorry hello goodbye
    """,
)
ACCENTS = ("en-us", "en-gb", "en-gb-scotland", "en-gb-x-rp", "en-gb-x-gbclan", "en-gb-x-gbcwmd", "en-029", "en-us-nyc")
VOICES = re.findall(
    r"\w+",
    """
    Adam Alex Alicia Andrea Andy Annie Antonio belinda benjamin boris caleb david Denis Diogo ed edward Gene
    Gustave Henrique Hugo iven Jacky john Lee linda marcelo Marco mario max michael michel miguel mike Nguyen pablo
    paul pedro quincy rob robert f1 f2 f3 f4 f5 m1 m2 m3 m4 m5 m6 m7 m8 klatt klatt2 klatt3 steph shelby victor zac
    """,
)
HELD_OUT = 8
"""One voice in this many is in val.csv alone."""
TELEPHONE = 8000
"""Hz; half of the clips go through it, as many recordings do."""


class Clip(NamedTuple):
    """One spoken word and its voice."""

    word: str
    number: int
    voice: str
    accent: str
    speed: int
    """Words a minute."""
    pitch: int
    """0 to 99."""
    telephone: bool

    @property
    def path(self) -> str:
        """Relative to the folder."""
        return f"audio/{self.word}_{self.number}.wav"


def plan(clips: int, seed: int = 0) -> list[Clip]:
    """Plan of all clips: ``clips`` of each word."""
    rng = np.random.default_rng(seed)
    return [
        Clip(
            word,
            number,
            voice=str(rng.choice(VOICES)),
            accent=str(rng.choice(ACCENTS)),
            speed=int(rng.integers(120, 220)),
            pitch=int(rng.integers(20, 80)),
            telephone=bool(rng.random() < 0.5),
        )
        for word in WORDS
        for number in range(clips)
    ]


def synthesise(clip: Clip, folder: Path) -> None:
    """Writes a clip, without the silence around it, as espeak-ng says it."""
    path = folder / clip.path
    voice = f"{clip.accent}+{clip.voice}"
    command = ["espeak-ng", "-v", voice, "-s", str(clip.speed), "-p", str(clip.pitch), "-w", str(path), clip.word]
    subprocess.run(command, check=True, capture_output=True)
    waveform, rate = soundfile.read(path, dtype="float32")
    loud = np.flatnonzero(np.abs(waveform) > 0.01)
    waveform = waveform[loud[0] : loud[-1] + 1]
    target = TELEPHONE if clip.telephone else 2 * TELEPHONE
    soundfile.write(path, soxr.resample(waveform, rate, target), target, subtype="PCM_16")


def main() -> None:
    """Writes the folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="takes the clips and tables")
    parser.add_argument("--clips", type=int, default=60, help="of each word")
    given = parser.parse_args()
    if shutil.which("espeak-ng") is None:
        print_error("error: espeak-ng is not installed; on Debian run: apt-get install espeak-ng")
        raise SystemExit(1)
    clips = plan(given.clips)
    (given.out / "audio").mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda clip: synthesise(clip, given.out), clips))
    held_out = set(VOICES[::HELD_OUT])
    for name, rows in (
        ("train", [clip for clip in clips if clip.voice not in held_out]),
        ("val", [clip for clip in clips if clip.voice in held_out]),
    ):
        table = given.out / f"{name}.csv"
        with replacing(table) as partial, partial.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([("audio", "label"), *((clip.path, clip.word) for clip in rows)])
        print_line(f"{table}: {len(rows)} clips of {len(WORDS)} words")


if __name__ == "__main__":
    main()
