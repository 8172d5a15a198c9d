"""Which of a bundle's outputs stands for a record as a vector. Never imports torch."""

import hashlib

from export.bundle import Bundle
from multimodal.decoding import EMBEDDING


def vector_output(bundle: Bundle, task: str | None = None) -> str:
    """Name of the output: that of the only embedding task, else the fused vector.

    Args:
        task: an embedding task, or ``embedding`` for the fused vector; None chooses.

    Raises:
        LookupError: if the bundle has no such output of vectors.
        ValueError: if it has none at all, or several to choose from.
    """
    tasks = [name for name, kind in bundle.tasks.items() if kind == "embedding"]
    outputs = [*tasks, *([EMBEDDING] if bundle.embedding else [])]
    if not outputs:
        raise ValueError(
            f"{bundle.folder} gives no vectors: it has neither an embedding task nor the fused vector; export its run "
            "again with `multimodal export RUN --out BUNDLE --embedding` (in Python: embedding=True)"
        )
    if task is not None and task not in outputs:
        raise LookupError(f"{bundle.folder} gives no vectors called {task!r}; there are {', '.join(outputs)}")
    if task is None and len(tasks) > 1:
        raise ValueError(f"{bundle.folder} has several embedding tasks; name one of {', '.join(outputs)} with --task")
    return outputs[0] if task is None else task


def vector_digest(bundle: Bundle) -> str:
    """sha256 of all that vectors depend on: the graph, and what prepares its inputs."""
    parts = [name for name in sorted(bundle.files) if name.startswith("inputs/") or name == bundle.models["fp32"]]
    lines = "".join(f"{bundle.files[name].sha256}  {name}\n" for name in parts)
    return hashlib.sha256(lines.encode()).hexdigest()
