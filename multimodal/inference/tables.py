"""Predictions as the columns of a table. Never imports torch."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from multimodal.decoding import Decoding
from multimodal.inference.batching import RecordResult
from multimodal.records import RecordError
from multimodal.task_types.decoding import ProbabilityDecoding, cell_text

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True)
class PredictionColumns:
    """Columns of a table of predictions, and one record's cells in them.

    >>> from multimodal.decoding import Destandardize, Prediction, Softmax
    >>> PredictionColumns({"product": Softmax(("apple", "pear")), "price": Destandardize(0.0, 1.0)}).names
    ['product', 'product_probability', 'price', 'error']
    >>> PredictionColumns({"price": Destandardize(0.0, 1.0)}).cells({"price": Prediction(value=2.5)})
    ['2.5', '']
    """

    decodings: Mapping[str, Decoding]
    every_probability: bool = False
    """Adds ``<task>_probability_<label>`` for every label."""
    taken: Collection[str] = ()
    """Names of columns beside these."""
    prefix: str = "predicted_"
    """Begins the names of a task of which one is taken."""

    @cached_property
    def types(self) -> dict[str, str]:
        """Name -> Arrow type, "string" or "double".

        Raises:
            ValueError: if a name is taken, with the prefix, too.
        """
        groups: list[dict[str, str]] = []
        for task, decoding in self.decodings.items():
            names = {task + suffix: kind for suffix, kind in decoding.columns.items()}
            groups.append(names | {f"{task}_probability_{label}": "double" for label in self._labels(decoding)})
        types: dict[str, str] = {}
        for names in (*groups, {"error": "string"}):
            begin = self.prefix if any(name in self.taken for name in names) else ""
            for name, kind in names.items():
                if begin + name in types or begin + name in self.taken:
                    raise ValueError(f"there are two columns {begin + name!r}; give another prefix (--prefix)")
                types[begin + name] = kind
        return types

    @property
    def names(self) -> list[str]:
        """In order; the last is ``error``, empty where there are predictions."""
        return list(self.types)

    def values(self, result: RecordResult) -> list[str | float | None]:
        """One record's values; None for an empty cell."""
        if isinstance(result, RecordError):
            return [*[None] * (len(self.types) - 1), result.detail]
        values: list[str | float | None] = []
        for task, decoding in self.decodings.items():
            values += decoding.cells(result[task])
            values += [result[task].probabilities[label] for label in self._labels(decoding)]
        return [*values, None]

    def cells(self, result: RecordResult) -> list[str]:
        """One record's values as text."""
        return [cell_text(value) for value in self.values(result)]

    def frame(self, results: Sequence[RecordResult], index: Any = None) -> "pandas.DataFrame":
        """The table as a DataFrame with this index.

        Raises:
            ModuleNotFoundError: if pandas is not installed.
        """
        try:
            import pandas
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(
                "pandas is not installed; run: pip install pandas, or take predict, which gives Python objects",
                name="pandas",
            ) from error
        table = pandas.DataFrame([self.values(result) for result in results], columns=self.names, index=index)
        return table.astype({name: float for name, kind in self.types.items() if kind == "double"})

    def _labels(self, decoding: Decoding) -> Sequence[str]:
        return decoding.labels if self.every_probability and isinstance(decoding, ProbabilityDecoding) else ()
