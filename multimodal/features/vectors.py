"""Mean tokens of frozen encoders over a table, as the heads of a concatenation see them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from fusion import ConcatFusion
from multimodal.data.dataset import RecordDataset
from multimodal.model import MultimodalModel
from multimodal.records import RecordError

_CHUNK = 4096  # records that are fused at once


@dataclass(frozen=True)
class TableVectors:
    """Mean tokens of the records of a table, each record ``views`` times.

    Legend: n records times views, the views of one record side by side.
    """

    tokens: dict[str, np.ndarray]
    """Input -> [n d], zeros where the record does not have it."""
    present: dict[str, np.ndarray]
    """Input -> bool [n]."""
    rows: np.ndarray
    """Of the table, int [n]: which record it is, and so what belongs together."""
    errors: dict[int, RecordError] = field(default_factory=dict)
    """Row -> why it cannot be read; it is left out."""

    def subset(self, kept: np.ndarray) -> "TableVectors":
        """Some of them, by place or by mask."""
        tokens = {name: values[kept] for name, values in self.tokens.items()}
        present = {name: values[kept] for name, values in self.present.items()}
        return TableVectors(tokens, present, self.rows[kept])


def read_vectors(data: RecordDataset, inputs: Sequence[str], *, views: int = 1) -> TableVectors:
    """Reads the kept tokens of a table, every view of them.

    Args:
        data: its readers of these inputs give mean tokens [1 d].
    """
    found: dict[str, list[np.ndarray]] = {name: [] for name in inputs}
    there: dict[str, list[bool]] = {name: [] for name in inputs}
    rows: list[int] = []
    errors: dict[int, RecordError] = {}
    for row in range(len(data)):
        try:
            read = [{name: data.read(name, view, row) for name in inputs} for view in range(views)]
        except RecordError as error:
            errors[row] = error
            continue
        for values in read:
            rows.append(row)
            for name, (arrays, is_there) in values.items():
                found[name].append(arrays["tokens"][0])
                there[name].append(is_there)
    dims = {name: len(data.readers[name].preprocessor.blank()["tokens"][0]) for name in inputs}
    tokens = {name: np.array(values, dtype=np.float32).reshape(-1, dims[name]) for name, values in found.items()}
    present = {name: np.array(values, dtype=bool) for name, values in there.items()}
    return TableVectors(tokens, present, np.array(rows, dtype=np.int64), errors)


@torch.inference_mode()
def mapped_vectors(model: MultimodalModel, vectors: TableVectors) -> TableVectors:
    """The same behind the model's maps; the map of a mean is the mean of what is mapped."""
    tokens = {name: _mapped(model, name, values) for name, values in vectors.tokens.items()}
    return replace(vectors, tokens=tokens)


def _mapped(model: MultimodalModel, name: str, tokens: np.ndarray) -> np.ndarray:
    owner = model.encoder_of[name]
    if owner not in model.maps:
        return tokens
    device = next(model.maps[owner].buffers()).device
    return model.maps[owner](torch.from_numpy(tokens).to(device)).cpu().numpy()


@torch.no_grad()
def set_missing_to_mean(fusion: ConcatFusion, vectors: TableVectors) -> None:
    """Sets the tokens that stand for missing inputs such that, normalised, they are the training mean.

    The mean m of vectors that were normalised to mean 0 and variance v / (v + eps) is m sqrt(eps / (1 - var m)) before
    its own normalisation, which adds eps to the variance.
    """
    for name, tokens in vectors.tokens.items():
        norm, missing = fusion.norms[name], fusion.missing[name]
        known = torch.from_numpy(tokens[vectors.present[name]]).to(missing.device)
        if len(known) == 0:
            missing.zero_()
            continue
        mean = norm(known).double().mean(dim=0)
        spread = 1.0 - mean.square().mean()
        missing.copy_(mean * (norm.eps / spread.clamp_min(1e-6)).sqrt())


@torch.inference_mode()
def fused_vectors(model: MultimodalModel, vectors: TableVectors, inputs: Sequence[str]) -> np.ndarray:
    """Fused vector of each record with these inputs alone, [n f]."""
    fusion = model.fusion
    device = next(fusion.parameters()).device
    parts = []
    for start in range(0, len(vectors.rows), _CHUNK):
        part = vectors.subset(np.arange(start, min(start + _CHUNK, len(vectors.rows))))
        parts.append(_fuse(fusion, part, inputs, device).cpu().numpy())
    return np.concatenate(parts) if parts else np.zeros((0, fusion.out_dim), np.float32)


def _fuse(fusion: torch.nn.Module, vectors: TableVectors, inputs: Sequence[str], device: torch.device) -> Tensor:
    assert isinstance(fusion, ConcatFusion)
    n = len(vectors.rows)
    tokens: dict[str, Tensor] = {}
    masks: dict[str, Tensor] = {}
    for name, dim in fusion.in_dims.items():
        shown = name in inputs
        values = vectors.tokens[name] if shown else np.zeros((n, dim), np.float32)
        present = vectors.present[name] if shown else np.zeros(n, bool)
        tokens[name] = torch.from_numpy(values)[:, None].to(device)
        masks[name] = torch.from_numpy(present)[:, None].to(device)
    return fusion(tokens, masks)


def columns_of(in_dims: Mapping[str, int], inputs: Sequence[str]) -> np.ndarray:
    """Columns of these inputs in the concatenation, int [d].

    >>> columns_of({"a": 2, "b": 1, "c": 2}, ["a", "c"])
    array([0, 1, 3, 4])
    """
    return np.flatnonzero(np.repeat([name in inputs for name in in_dims], list(in_dims.values())))
