"""What an install brings, read from the environment that runs: distributions and their sizes."""

from importlib.metadata import Distribution, PackageNotFoundError, distribution

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PROJECT = "multimodal-transfer"


def distributions(extra: str = "") -> dict[str, Distribution]:
    """All that ``pip install 'multimodal-transfer[extra]'`` brings beside the project itself, by name."""
    found: dict[str, Distribution] = {}
    pending, seen = [Requirement(f"{PROJECT}[{extra}]" if extra else PROJECT)], set()
    while pending:
        wanted = pending.pop()
        for chosen in ("", *sorted(wanted.extras)):
            if (name := canonicalize_name(wanted.name), chosen) in seen:
                continue
            seen.add((name, chosen))
            try:
                found[name] = distribution(name)
            except PackageNotFoundError:
                continue  # of another system
            needed = map(Requirement, found[name].requires or ())
            pending += [
                entry
                for entry in needed
                if (entry.marker is None and not chosen) or (entry.marker and entry.marker.evaluate({"extra": chosen}))
            ]
    del found[PROJECT]
    return found


def megabytes(found: dict[str, Distribution]) -> float:
    """Of the files of some distributions, in 10^6 bytes."""
    paths = {file.locate() for entry in found.values() for file in entry.files or ()}
    return sum(path.stat().st_size for path in paths if path.is_file()) / 1e6
