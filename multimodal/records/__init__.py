"""Tables of records, and what their cells mean. Never imports torch."""

from multimodal.records.cells import class_label, is_missing, label_set
from multimodal.records.manifests import ManifestError
from multimodal.records.records import InputReader, RecordError, Records, is_table, read_records, stack_inputs

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
