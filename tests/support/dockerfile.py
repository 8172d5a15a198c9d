"""A Dockerfile as data, so that what it says can be checked, and run, where there is no Docker."""

import re
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Stage:
    """What one image is made of."""

    base: str
    steps: tuple[tuple[str, str], ...]
    """Instruction, and what stands behind it on one line."""

    def all(self, instruction: str) -> list[str]:
        """What stands behind every instruction of this name."""
        return [rest for name, rest in self.steps if name == instruction]

    def one(self, instruction: str) -> str:
        """What stands behind the only instruction of this name."""
        (rest,) = self.all(instruction)
        return rest

    def copied(self) -> list[str]:
        """Sources that come from the context, not from another stage."""
        return [name for rest in self.all("COPY") if not rest.startswith("--from") for name in rest.split()[:-1]]


def read_dockerfile(path: Path = ROOT / "Dockerfile") -> list[Stage]:
    """Its stages; lines that end in a backslash continue, and comments are left out."""
    text = re.sub(r"^#.*\n", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    lines = [line.split(maxsplit=1) for line in text.replace("\\\n", " ").splitlines() if line.strip()]
    starts = [number for number, (name, _) in enumerate(lines) if name == "FROM"]
    ends = [*starts[1:], len(lines)]
    return [
        Stage(lines[start][1], tuple((name, rest) for name, rest in lines[start + 1 : end]))
        for start, end in zip(starts, ends, strict=True)
    ]


def is_in_context(name: str, ignore: Path = ROOT / ".dockerignore") -> bool:
    """Whether a file of the project is sent to Docker: the last line that fits a name or its folder decides."""
    sent = True
    for line in ignore.read_text(encoding="utf-8").splitlines():
        pattern = line.removeprefix("!").removeprefix("**/")
        places = [name, *(str(parent) for parent in Path(name).parents if parent != Path("."))]
        names = [part for place in places for part in ((place, Path(place).name) if "**/" in line else (place,))]
        if line and not line.startswith("#") and any(fnmatch(place, pattern) for place in names):
            sent = line.startswith("!")
    return sent
