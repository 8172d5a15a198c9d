"""Model card of a bundle, in Markdown. Never imports torch."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from export.bundle import Bundle

_LOAD = """```python
import multimodal as mm

predictor = mm.Predictor.load("{folder}")
predictions = predictor.predict([{{{record}}}])
```"""
_EXAMPLES = {"image": '"photo.jpg"', "text": '"a few words"', "audio": '"audio.wav"'}


def model_card(bundle: Bundle, metrics: Mapping[str, Any], provenance: Mapping[str, Any]) -> str:
    """Card with inputs, tasks, metrics, licences and the code that loads the bundle."""
    record = ", ".join(f'"{name}": {_EXAMPLES.get(entry.modality, "...")}' for name, entry in bundle.inputs.items())
    parts = [
        f"# {bundle.name}",
        "An ONNX bundle: it runs in onnxruntime, without torch. Inputs may be missing in any combination, "
        "but not all at once.",
        *_warnings(bundle, provenance),
        "## How to load",
        "Install with `pip install multimodal-transfer` (on a GPU: `pip install 'multimodal-transfer[cuda]'`).",
        _LOAD.format(folder="path/to/this/folder", record=record),
        "`multimodal predict BUNDLE --data table.csv --out preds.csv` predicts a table; `multimodal verify BUNDLE` "
        "checks that this folder is complete and gives the predictions that it should.",
        "## Inputs",
        _table(("input", "modality", "column", "encoder weights", "licence"), _input_rows(bundle, provenance)),
        "## Tasks",
        _table(("task", "type"), bundle.tasks.items()),
        "## Metrics",
        _table(("task", "metric", "value", "95 % interval"), _metric_rows(bundle, metrics)),
        "Measured on the records and with the settings in `metrics.json` and `provenance.json`. Licences of encoder "
        "weights are as their publishers state them; `unknown` means that none is stated.",
    ]
    return "\n\n".join(parts) + "\n"


def is_non_commercial(licence: str) -> bool:
    """True if a licence's name contains "NC", as those of Creative Commons do.

    >>> is_non_commercial("CC-BY-NC-4.0"), is_non_commercial("cc-by-nc-sa-4.0"), is_non_commercial("CC-BY-4.0")
    (True, True, False)
    """
    return re.search(r"\bnc\b", licence, re.IGNORECASE) is not None


def _warnings(bundle: Bundle, provenance: Mapping[str, Any]) -> Iterator[str]:
    for name, _, _, weights, licence in _input_rows(bundle, provenance):
        if is_non_commercial(licence):
            yield (
                f"**Not for commercial use:** the encoder of input `{name}` began with weights ({weights}) under "
                f"{licence}, a licence that does not allow it and covers derived weights, too."
            )


def _input_rows(bundle: Bundle, provenance: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    encoders = provenance.get("encoders", {})
    for name, entry in bundle.inputs.items():
        encoder = encoders.get(name, {})
        weights, licence = encoder.get("weights", "unknown"), encoder.get("licence", "unknown")
        yield name, entry.modality, entry.column, str(weights), str(licence)


def _metric_rows(bundle: Bundle, metrics: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    measured = metrics.get("tasks", {})
    for task in filter(measured.__contains__, bundle.tasks):
        values = measured[task]
        yield task, "n", str(values.get("n", "")), ""
        for name, estimate in values.items():
            if isinstance(estimate, Mapping) and estimate.get("value") is not None:
                low, high = estimate.get("low"), estimate.get("high")
                interval = "" if low is None or high is None else f"{low:.4g} to {high:.4g}"
                yield task, name, f"{estimate['value']:.4g}", interval


def _table(header: tuple[str, ...], rows: Any) -> str:
    lines = [tuple(header), ("---",) * len(header), *rows]
    if len(lines) == 2:
        return "None were measured."
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
