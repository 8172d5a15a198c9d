from typing import Any

import numpy as np
import pandas as pd
import pytest

from encoders.preprocessing import Arrays, TensorSpec, UnreadableValueError, stack_arrays
from multimodal.inference.sources import open_source
from multimodal.records import InputReader, ManifestError, RecordError


class Length:
    """Preprocessor of a text: how long it is."""

    modality = "text"
    tensors = (TensorSpec("length", "float32", ("batch", 1)),)

    def __call__(self, raw: Any) -> Arrays:
        if not isinstance(raw, str):
            raise UnreadableValueError(f"a text cannot be a {type(raw).__name__}")
        return {"length": np.array([len(raw)], np.float32)}

    def blank(self) -> Arrays:
        return {"length": np.zeros(1, np.float32)}

    def stack(self, samples: Any) -> Arrays:
        return stack_arrays(samples, self.tensors, {})

    def to_config(self) -> dict[str, Any]:
        return {"kind": "length"}


READERS = {"title": InputReader("title", "name", Length()), "text": InputReader("text", "text", Length())}
"""Two inputs, of which one is called unlike its column."""


def read(records: Any, **options: Any) -> list[Any]:
    """Per record the length of each text, 0 where it is missing; or the reason why it cannot be read."""
    source = open_source(records, READERS, **options)
    samples = [source.read(number, row) for number, row in enumerate(source.rows)]
    return [
        sample.reason
        if isinstance(sample, RecordError)
        else {name: arrays["length"].item() for name, (arrays, _) in sample.items()}
        for sample in samples
    ]


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"label": ["a", "b"]},
        {"sku": [1, 2], "price": [0.5, None]},
        {"titles": ["x", "y"]},
        {"image": [None, None], "name_2": ["x", "y"]},
    ],
    ids=str,
)
def test_a_data_frame_and_its_dicts_are_read_alike_whatever_else_they_hold(more):
    frame = pd.DataFrame({"name": ["fig", None], "text": ["red", "ripe"], **more})
    expected = [{"title": 3.0, "text": 3.0}, {"title": 0.0, "text": 4.0}]
    assert read(frame) == read(frame.to_dict("records")) == read(row for row in frame.to_dict("records")) == expected


def test_a_dict_may_have_an_inputs_name_or_its_columns_and_the_name_goes_first():
    rows = [{"title": "fig", "name": "apple"}, {"name": "apple"}, {"title": None, "name": "apple", "text": "red"}]
    assert read(rows) == [{"title": 3.0, "text": 0.0}, {"title": 5.0, "text": 0.0}, {"title": 0.0, "text": 3.0}]


@pytest.mark.parametrize("key", ["txt", "Text", "texts", "tex", "titel"])
def test_a_key_that_is_probably_a_misspelt_input_is_refused(key):
    meant = "title" if key == "titel" else "text"
    (reason,) = read([{"name" if meant == "text" else "text": "fig", key: "red"}])
    assert reason == f"has the key {key!r}, which is no input; did you mean {meant!r}? Else give {meant!r}: None"
    assert read([{"name": "fig", "text": "red", "title": "x", key: "red"}]) == [{"title": 1.0, "text": 3.0}]


def test_a_table_with_a_misspelt_column_is_refused():
    with pytest.raises(ManifestError, match="has no column 'text' but 'Text'"):
        read(pd.DataFrame({"name": ["fig"], "Text": ["red"]}))


@pytest.mark.parametrize("key", ["sku", "name", "txt"])
def test_with_strict_keys_a_dict_has_inputs_names_alone(key):
    assert read([{"text": "red", key: "a"}], strict_keys=True)[0].startswith(
        f"has the key {key!r}, which is no input; "
    )


class Polars:
    """Methods of polars.DataFrame: ``to_dict`` gives columns, and ``to_dicts`` rows."""

    columns = ("name", "text")

    def to_dict(self, *, as_series: bool = True) -> dict[str, list[Any]]:
        return {"name": ["fig", None], "text": ["red", "ripe"]}

    def to_dicts(self) -> list[dict[str, Any]]:
        return [{"name": "fig", "text": "red"}, {"name": None, "text": "ripe"}]


def test_tables_of_polars_and_arrow_are_read_as_those_of_pandas():
    pyarrow = pytest.importorskip("pyarrow")
    for table in (Polars(), pyarrow.table(Polars().to_dict())):
        assert read(table) == [{"title": 3.0, "text": 3.0}, {"title": 0.0, "text": 4.0}]
