"""The table of docs/encoders.md, measured: ``make encoder-table``, some rows by ``make encoder-table ROWS="NAME ..."``.

Every row is a small member of its family with random weights, see ``encoder_members``. Its limits, which nothing
measures, are in ``encoder_limits``.
"""

import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from support.encoder_limits import LIMITS, limits_of
from support.encoder_members import ENCODERS

from encoders import create_encoder
from encoders.base import Encoder
from encoders.preprocessing import Arrays
from encoders.testing import default_samples, export_onnx

PAGE = Path(__file__).resolve().parents[2] / "docs" / "encoders.md"
START, END = "<!-- written by `make encoder-table` -->", "<!-- end of what `make encoder-table` writes -->"
HEADER = ("family", "modality", "loads", "trains", "depth groups", "ONNX fp32", "ONNX fp16", "limits")
KEPT_IN_FP32 = ("LayerNormalization", "GroupNormalization", "InstanceNormalization", "Softmax", "ReduceMean")
KEPT_IN_FP32 += ("ReduceSum", "Pow", "Sqrt", "Exp", "Log")
"""Operators whose sums and powers overflow or underflow in half precision."""


class Answer(NamedTuple):
    """What torch gave for a batch."""

    batch: Arrays
    tokens: np.ndarray
    mask: np.ndarray


def main(names: Sequence[str]) -> None:
    """Measures the rows of these names, all if there are none, and writes each into the page when it is done."""
    unknown = [name for name in names if name not in ENCODERS]
    if unknown:
        sys.exit(f"no member of encoder_members.ENCODERS: {', '.join(unknown)}; there are {', '.join(ENCODERS)}")
    for name in names or ENCODERS:
        row = measure(name)
        print("\t".join((name, *row)), flush=True)
        page = PAGE.read_text(encoding="utf-8")
        PAGE.write_text(with_rows(page, {**read_rows(page), name: row}), encoding="utf-8")


# --- the page ----------------------------------------------------------------------------------------------------


def read_rows(page: str) -> dict[str, tuple[str, ...]]:
    """The measured cells of every row in the page."""
    block = page.partition(START)[2].partition(END)[0]
    lines = [line.strip("| ").split(" | ") for line in block.splitlines() if line.startswith("| `")]
    return {name.strip("`"): tuple(cells[: len(HEADER) - 2]) for name, *cells in lines}


def with_rows(page: str, rows: dict[str, tuple[str, ...]]) -> str:
    """The page with these rows, in the order of the members, and all limits."""
    before, _, rest = page.partition(START)
    table = [HEADER, ("---",) * len(HEADER)]
    table += [(f"`{name}`", *rows[name], ", ".join(limits_of(name))) for name in ENCODERS if name in rows]
    lines = ["| " + " | ".join(cells) + " |" for cells in table]
    limits = [f"- **{label}**: {limit.text}" for label, limit in LIMITS.items()]
    written = "\n".join([START, "", *lines, "", "What the words in the last column mean:", "", *limits, "", END])
    return before + written + rest.partition(END)[2]


# --- a row -------------------------------------------------------------------------------------------------------


def measure(name: str) -> tuple[str, ...]:
    """Modality, loads, trains, depth groups, ONNX fp32, ONNX fp16."""
    with tempfile.TemporaryDirectory() as folder:
        torch.manual_seed(0)
        encoder = ENCODERS[name](Path(folder)).eval()
        preprocessor = encoder.preprocessor
        records = [preprocessor(raw) for raw in default_samples(encoder.modality)]
        answers = [
            _answer(encoder, preprocessor.stack(chosen))
            for chosen in ([records[0]], [records[-1]], [preprocessor.blank()], [*records, preprocessor.blank()])
        ]
        batch = preprocessor.stack(records)
        fp32, fp16 = _onnx(encoder, preprocessor.stack(records[:2]), answers)
        loads = _loads(encoder, answers[-1], Path(folder) / "saved.pt")
        return encoder.modality, loads, _trains(encoder, batch), _freezes(encoder, batch), fp32, fp16


def _answer(encoder: Encoder, batch: Arrays) -> Answer:
    with torch.no_grad():
        tokens, mask = encoder({name: torch.from_numpy(array) for name, array in batch.items()})
    return Answer(batch, tokens.numpy(), mask.numpy())


def _loads(encoder: Encoder, expected: Answer, file: Path) -> str:
    """Whether a file of its weights, loaded by its name, gives the same tokens."""
    torch.save(encoder.state_dict(), file)
    torch.manual_seed(1)
    loaded = create_encoder(encoder.name, weights=file, **encoder.architecture()).eval()
    return _yes(_difference([expected], [_answer(loaded, expected.batch)[1:]]) <= 1e-5 * _scale([expected]))


def _trains(encoder: Encoder, batch: Arrays) -> str:
    """Whether the optimizer changes every parameter."""
    changed = _step(encoder, batch, frozen=0)
    return _yes(all(all(group) for group in changed))


def _freezes(encoder: Encoder, batch: Arrays) -> str:
    """How many depth groups there are, if training with the first half of them frozen changes the others alone."""
    count = len(encoder.depth_groups())
    changed = _step(encoder, batch, frozen=count // 2)
    kept = not any(any(group) for group in changed[: count // 2])
    return str(count) if kept and all(all(group) for group in changed[count // 2 :]) else f"no: {count} groups"


def _step(encoder: Encoder, batch: Arrays, *, frozen: int) -> list[list[bool]]:
    """For each depth group, for each of its parameters, whether AdamW changes it; that is undone at the end.

    In two steps: where a block's last scale begins with zero, the first leaves the block as it is.
    """
    groups = encoder.depth_groups()
    for parameter in (parameter for group in groups[:frozen] for parameter in group):
        parameter.requires_grad_(False)
    before = [[parameter.detach().clone() for parameter in group] for group in groups]
    optimizer = torch.optim.AdamW(encoder.parameters(), lr=1e-2)
    torch.manual_seed(0)
    for _ in range(2):
        optimizer.zero_grad()
        tokens, mask = encoder({name: torch.from_numpy(array) for name, array in batch.items()})
        (tokens[mask] * torch.randn_like(tokens[mask])).sum().backward()  # a plain sum is constant after a LayerNorm
        optimizer.step()
    changed = []
    with torch.no_grad():
        for old, new in zip(before, groups, strict=True):
            changed.append([not torch.equal(*pair) for pair in zip(old, new, strict=True)])
            for kept, parameter in zip(old, new, strict=True):
                parameter.copy_(kept).requires_grad_(True).grad = None
    return changed


# --- ONNX --------------------------------------------------------------------------------------------------------


def _onnx(encoder: Encoder, example: Arrays, answers: Sequence[Answer]) -> tuple[str, str]:
    """Largest difference from torch: as it is in fp32; in fp16 as a share of the tokens' standard deviation."""
    try:
        graph = export_onnx(encoder, example)
        fp32 = f"{_difference(answers, _run(graph, answers)):.0e}"
    except Exception as error:  # of the exporter, of onnxruntime: whatever it is stands in the table
        return _reason(error), "no: there is no fp32 graph"
    try:
        share = _difference(answers, _run(to_half(graph), answers)) / _scale(answers)
    except Exception as error:
        return fp32, _reason(error)
    return fp32, f"{share:.0e}"


def to_half(graph: bytes) -> bytes:
    """The graph in half precision, but for inputs, outputs and ``KEPT_IN_FP32``."""
    import onnx
    from onnxruntime.transformers import float16

    kept = [*float16.DEFAULT_OP_BLOCK_LIST, *KEPT_IN_FP32]
    model = float16.convert_float_to_float16(onnx.load_model_from_string(graph), keep_io_types=True, op_block_list=kept)
    nodes = {node.output[0]: node for node in model.graph.node}  # it writes a cast once for every reader
    del model.graph.node[:]
    model.graph.node.extend(nodes.values())
    return model.SerializeToString()


def _run(graph: bytes, answers: Sequence[Answer]) -> list[tuple[np.ndarray, np.ndarray]]:
    import onnxruntime

    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    return [tuple(session.run(["tokens", "mask"], answer.batch)) for answer in answers]


def _difference(expected: Iterable[Answer], found: Iterable[tuple[np.ndarray, np.ndarray]]) -> float:
    """The largest between real tokens.

    Raises:
        ValueError: if others are real, or one is not finite.
    """
    largest = 0.0
    for answer, (tokens, mask) in zip(expected, found, strict=True):
        if not np.array_equal(mask, answer.mask):
            raise ValueError("other tokens are real")
        if not np.isfinite(tokens[mask]).all():
            raise ValueError("tokens are not finite")
        largest = max(largest, float(np.abs(tokens[mask] - answer.tokens[mask]).max()))
    return largest


def _scale(answers: Sequence[Answer]) -> float:
    return float(np.std(answers[-1].tokens[answers[-1].mask]))


def _reason(error: Exception) -> str:
    first = (str(error).strip().splitlines() or [""])[0].replace("|", "/")
    return f"no: {type(error).__name__}: {first[:160]}"


def _yes(holds: bool) -> str:
    return "yes" if holds else "no"


if __name__ == "__main__":
    main(sys.argv[1:])
