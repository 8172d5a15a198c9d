"""Tables of records, and what their cells mean. Never imports torch."""

from multimodal.records.records import (
    InputReader,
    ManifestError,
    RecordError,
    Records,
    class_label,
    is_missing,
    is_table,
    label_set,
    read_records,
    stack_inputs,
)

__all__ = [
    "InputReader",
    "ManifestError",
    "RecordError",
    "Records",
    "class_label",
    "is_missing",
    "is_table",
    "label_set",
    "read_records",
    "stack_inputs",
]
