import builtins
import csv
import gzip
import hashlib
import io
import itertools
import json
import os
import pickle
import threading
import tracemalloc
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from multimodal.records.manifests import Manifest, ManifestError, Table, check_columns, read_manifest
from multimodal.records.records import read_records


def write(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def table_of(path: Path) -> Table:
    return read_manifest(path)[0]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", b"a,b\n1,2\n"),
        ("a.csv", b"\xef\xbb\xbfa,b\r\n1,2\r\n"),
        ("a.csv", b"a\n"),
        ("a.jsonl", b'{"a": 1}\n\n'),
        ("a.ndjson", b'{"a": "\\u00fc"}'),
    ],
)
def test_the_digest_is_that_of_the_file_as_it_was_read(tmp_path, name, content):
    path = write(tmp_path, name, content)
    records = read_records(path)
    path.write_bytes(b"a\nanother\n")
    expected = hashlib.sha256(content).hexdigest()
    assert [records.sha256, records.subset([]).sha256, records.without(["a"]).sha256] == [expected] * 3


def test_a_parquet_file_has_its_digest_and_python_objects_have_none(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    table = pytest.importorskip("pyarrow").table({"a": [1]})
    parquet.write_table(table, tmp_path / "a.parquet")
    expected = hashlib.sha256((tmp_path / "a.parquet").read_bytes()).hexdigest()
    assert read_records(tmp_path / "a.parquet").sha256 == expected
    assert read_records([{"a": 1}]).sha256 is None


def test_csv_cells_stay_text(tmp_path):
    path = write(tmp_path, "a.csv", "image,price,code\na.jpg,2.50,007\nb.jpg,,NA\n")
    columns, rows = table_of(path)
    assert columns == ("image", "price", "code")
    assert rows == [
        {"image": "a.jpg", "price": "2.50", "code": "007"},
        {"image": "b.jpg", "price": "", "code": "NA"},
    ]


@pytest.mark.parametrize("prefix", [b"", b"\xef\xbb\xbf"], ids=["plain", "byte order mark"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"], ids=repr)
def test_csv_with_any_line_end_with_or_without_byte_order_mark(tmp_path, prefix, end):
    path = write(tmp_path, "a.CSV", prefix + f"naïve,b{end}ü,2{end}".encode())
    assert table_of(path) == (("naïve", "b"), [{"naïve": "ü", "b": "2"}])


def test_csv_quoted_cells_hold_commas_quotes_and_line_breaks(tmp_path):
    path = write(tmp_path, "a.csv", 'text,label\n"red, ""ripe""\nand round",apple\n')
    assert table_of(path)[1] == [{"text": 'red, "ripe"\nand round', "label": "apple"}]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50, deadline=None)
@given(rows=st.lists(st.tuples(st.text(st.characters(codec="utf-8")), st.text(st.characters(codec="utf-8")))))
def test_csv_gives_back_what_the_csv_module_wrote(tmp_path, rows):
    path = tmp_path / "a.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, quoting=csv.QUOTE_ALL).writerows([("a", "b"), *rows])
    assert table_of(path)[1] == [{"a": first, "b": second} for first, second in rows]


def test_csv_blank_lines_are_no_records(tmp_path):
    assert len(table_of(write(tmp_path, "a.csv", "\na,b\n1,2\n\n3,4\n\n"))[1]) == 2


def test_csv_with_a_header_only_has_no_records(tmp_path):
    assert table_of(write(tmp_path, "a.csv", "a,b\n")) == (("a", "b"), [])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "a.csv: is empty; its first line must name the columns"),
        ("a,b\n1,2\n1,2,3\n", r"a.csv, row 2: has 3 cells where the header has 2 \(it ends in line 3\)"),
        ('a,b\n"x\ny",1\n1\n', r"a.csv, row 2: has 1 cells where the header has 2 \(it ends in line 4\)"),
        ("a,a\n1,2\n", "more than one column is named 'a'"),
        (",a\n0,2\n", r"column 1 has an empty name; .*index=False"),
        ("a, \n0,2\n", "column 2 has an empty name"),
        ('a,b\n"x"y,1\n', "line 2 is not CSV"),
        ('a,b\n1,"x\n', "is not CSV .unexpected end of data.; quote its cells"),
        (
            "a;b\n1,2;3;4\n",
            "row 1: has 3 cells where .*; put quotes around cells that hold a semicolon",
        ),
        ("a\tb\n1\n", "row 1: has 1 cells .* hold a tab or a line break"),
        ("a,b\n1,ü\n".encode("latin-1"), r"line 2 is not UTF-8 \(byte 0xfc\); save the file as UTF-8"),
        ("a,b\n1,2\n".encode("utf-16-le"), "begins with NUL characters, as UTF-16 does; save the file as UTF-8"),
        (b"\xff\xfea\0,\0b", r"is not UTF-16, as its first bytes say; save the file as UTF-8"),
    ],
)
def test_csv_that_is_no_table_is_refused_with_its_place(tmp_path, content, message):
    with pytest.raises(ManifestError, match=message):
        table_of(write(tmp_path, "a.csv", content))


def test_json_lines_keep_their_types_and_may_leave_keys_out(tmp_path):
    lines = [{"image": "a.jpg", "labels": ["x", "y"], "price": 2.5}, {"text": "r\u2028ed", "price": None}]
    content = "\ufeff" + "\r\n\n".join(json.dumps(line, ensure_ascii=False) for line in lines)
    columns, rows = table_of(write(tmp_path, "a.jsonl", content))
    assert columns == ("image", "labels", "price", "text")
    assert rows == lines


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"a": 1}\n{"a": }\n', r"a.ndjson: line 2 is not JSON \(.*; write one object per line"),
        ("[1]\n", "line 1 holds a list, not an object"),
        ('\n{"a": 1, "a": 2}\n', r"line 2 is not JSON \(the key 'a' occurs twice\)"),
        ('{"": 1}\n', "column 1 has an empty name"),
        ("[" * 100_000, "line 1 is not JSON"),
    ],
)
def test_json_lines_that_are_no_records_are_refused_with_their_line(tmp_path, content, message):
    with pytest.raises(ManifestError, match=message):
        table_of(write(tmp_path, "a.ndjson", content))


def test_parquet_is_read_as_pyarrow_wrote_it(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    rows = [{"image": b"\xff\xd8", "n": 3, "labels": ["x"]}, {"image": None, "n": None, "labels": []}]
    (tmp_path / "n=5").mkdir()  # a folder's name is no column
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "n=5" / "a.parquet")
    assert table_of(tmp_path / "n=5" / "a.parquet") == (("image", "n", "labels"), rows)


def test_parquet_that_is_damaged_or_has_a_column_twice_is_refused(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    with pytest.raises(ManifestError, match=r"a.parquet: is not a Parquet file that can be read .*; write it again"):
        table_of(write(tmp_path, "a.parquet", b"PAR1 and no more"))
    table = pyarrow.Table.from_arrays([pyarrow.array([1]), pyarrow.array([2])], names=["a", "a"])
    parquet.write_table(table, tmp_path / "b.parquet")
    with pytest.raises(ManifestError, match="more than one column is named 'a'"):
        table_of(tmp_path / "b.parquet")


def test_parquet_without_pyarrow_names_the_command_that_installs_it(tmp_path, monkeypatch):
    original = builtins.__import__

    def without_pyarrow(name, *args, **kwargs):
        if name.partition(".")[0] == "pyarrow":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return original(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_pyarrow)
    with pytest.raises(ModuleNotFoundError, match=r"run: pip install 'multimodal-transfer\[parquet\]'"):
        table_of(write(tmp_path, "a.parquet", b""))


def test_a_file_that_is_not_there_is_said(tmp_path):
    with pytest.raises(ManifestError, match=r"nothing.csv cannot be read \(No such file or directory\)"):
        table_of(tmp_path / "nothing.csv")


@pytest.mark.parametrize(
    ("name", "way"),
    [
        ("a.xlsx", "save the sheet as CSV, or in Python give pandas.read_excel"),
        ("a.ods", "save the sheet as CSV"),
        ("a.zip", "unpack it, and name the table in it"),
        ("a.parquet.gz", "unpack it"),
        ("a.json", "write one object per line, as .jsonl"),
        ("a.txt", "call it .csv or .tsv if it is one"),
        ("train", "call it .csv or .tsv if it is one"),
        ("a.pkl", "read it with pandas, and give the DataFrame"),
        ("a.png", "there are .csv, .tsv, .jsonl, .ndjson, .parquet"),
        ("https://example.org/a.csv", "is named by an address; download the file"),
        ("s3://bucket/a.parquet", "is named by an address; download the file"),
        ("file:///a.csv", "is named by an address; download the file, and give its path"),
        (".", "is a folder; name a table in it; for a folder of each class, write one: a header `image,label`"),
    ],
)
def test_what_is_no_manifest_names_the_way_to_one(tmp_path, name, way):
    with pytest.raises(ManifestError, match=way):
        table_of(tmp_path / name)


TABLE = (("text", "label"), [{"text": 'red, "ripe"\nü', "label": "x;y"}, {"text": "", "label": "z"}])


def written(separator: str, encoding: str = "utf-8") -> bytes:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, TABLE[0], delimiter=separator)
    writer.writeheader()
    writer.writerows(TABLE[1])
    return text.getvalue().encode(encoding)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", written(";")),
        ("a.csv", written(";", "utf-8-sig")),
        ("a.csv", written("\t")),
        ("a.csv", written(",", "utf-16")),
        ("a.csv", b"\xfe\xff" + written(";", "utf-16-be")),
        ("a.tsv", written("\t")),
        ("a.TSV.GZ", gzip.compress(written("\t", "utf-16"))),
        ("a.csv.gz", gzip.compress(written(","))),
        ("a.csv.gz", gzip.compress(written(";")[:9]) + gzip.compress(written(";")[9:])),
        ("a.jsonl.gz", gzip.compress("\n".join(map(json.dumps, TABLE[1])).encode())),
    ],
    ids=range(10),
)
def test_a_table_is_the_same_in_any_lawful_form(tmp_path, name, content):
    assert table_of(write(tmp_path, name, content)) == TABLE


@pytest.mark.parametrize(
    ("header", "columns"),
    [
        ("text", ("text",)),
        ('"a;b",c', ("a;b", "c")),
        ('"a,b";c', ("a,b", "c")),
        ('"a\n,b"\tc', ("a\n,b", "c")),
        ("a;b,c", ("a;b", "c")),
        ("\n\na\tb;c", ("a", "b;c")),
    ],
)
def test_the_header_outside_quotes_tells_the_separator(tmp_path, header, columns):
    assert table_of(write(tmp_path, "a.csv", f"{header}\n"))[0] == columns


@pytest.mark.parametrize("length", [131_072, 131_073, 1_000_000])
def test_a_cell_may_be_long_and_columns_many(tmp_path, length):
    before = csv.field_size_limit()
    names = ",".join(f"c{number}" for number in range(5000))
    content = f"text,{names}\n{'x' * length}{',1' * 5000}\n"
    columns, rows = table_of(write(tmp_path, "a.csv", content))
    assert (len(columns), len(rows[0]["text"]), rows[0]["c4999"]) == (5001, length, "1")
    assert csv.field_size_limit() == before  # the process's own


@pytest.mark.parametrize("damage", [slice(0, -4), slice(0, 12), slice(1, None), slice(0, 0)])
def test_a_compressed_table_that_is_damaged_is_refused(tmp_path, damage):
    with pytest.raises(ManifestError, match=r"a.csv.gz: (cannot be decompressed .*; copy it again|is empty)"):
        table_of(write(tmp_path, "a.csv.gz", gzip.compress(b"a,b\n1,2\n")[damage]))


def test_column_names_are_text():
    with pytest.raises(ManifestError, match="DataFrame: column 2 is named 0, which is not text"):
        check_columns("DataFrame", ["a", 0])


def test_manifest_error_survives_the_way_between_processes():
    error = pickle.loads(pickle.dumps(ManifestError("a.csv", "is odd", 3)))
    assert (error.source, error.reason, error.row, str(error)) == ("a.csv", "is odd", 3, "a.csv, row 3: is odd")


ROWS = [{"text": f'line {number}\nof "many", {"x" * (number % 7)}', "label": str(number % 3)} for number in range(2500)]


def written(folder: Path, name: str) -> Path:
    """The rows as a file of this name."""
    path, frame = folder / name, pd.DataFrame(ROWS)
    if name.endswith(".parquet"):
        frame.to_parquet(path, row_group_size=700)
    elif "jsonl" in name:
        frame.to_json(path, orient="records", lines=True)
    else:
        frame.to_csv(
            path, index=False, sep="\t" if ".tsv" in name else ",", encoding="utf-16" if "16" in name else None
        )
    return path


FILES = ("t.csv", "t.tsv", "t16.csv", "t.csv.gz", "t.jsonl", "t.jsonl.gz", "t.parquet")


@pytest.mark.parametrize("name", FILES)
def test_rows_that_are_not_kept_are_those_of_the_whole_table(tmp_path, name):
    path = written(tmp_path, name)
    (columns, rows), sha256 = read_manifest(path)
    manifest = Manifest.open(path)
    assert rows == ROWS
    assert list(manifest) == list(manifest) == rows
    assert (manifest.columns, manifest.sha256, len(manifest)) == (columns, sha256, 2500)
    assert sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (manifest[0], manifest[1234], manifest[-1]) == (rows[0], rows[1234], rows[-1])
    assert list(manifest[1999:]) == rows[1999:]
    assert list(manifest[100:][50:]) == rows[150:]
    assert manifest[5:8] == rows[5:8]


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_changes_between_two_readings_is_refused(tmp_path, name):
    path = written(tmp_path, name)
    manifest = Manifest.open(path)
    ROWS[7], before = {"text": "another", "label": "9"}, ROWS[7]
    try:
        written(tmp_path, name)
    finally:
        ROWS[7] = before
    with pytest.raises(ManifestError, match="has changed while it was read; begin again"):
        list(manifest)


def test_a_table_that_is_not_kept_takes_no_memory_per_row(tmp_path):
    path = tmp_path / "t.csv"
    with path.open("w") as file:
        file.write("text,label\n")
        file.writelines(f"line {number} of many that are not kept,{number % 3}\n" for number in range(50_000))
    tracemalloc.start()
    records = read_records(path, lazily=True)
    places = [records.place(number) for number, _ in enumerate(records.after(49_990).rows, 49_990)]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert places[0] == "t.csv, row 49991"
    assert peak < 5e6  # the rows of the table are 25 MB


@pytest.mark.parametrize("sizes", [(0,), (1,), (2,), (3,), (1, 2, 3), (9, 10)], ids=str)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("lazily", [False, True])
def test_a_table_of_many_gzip_members_is_read_as_the_one_that_it_unpacks_to(tmp_path, sizes, encoding, lazily):
    content = "text;label\nrot, ü;1\n".encode(encoding)
    bounds = [0, *sizes, len(content)]
    packed = b"".join(gzip.compress(content[start:stop]) for start, stop in itertools.pairwise(bounds))
    records = read_records(write(tmp_path, "a.csv.gz", packed), lazily=lazily)
    assert records.columns == ("text", "label")
    assert list(records.rows) == [{"text": "rot, ü", "label": "1"}]


@pytest.mark.parametrize("before", ["x" * 9_000, "x" * 70_000, '"' + "x\n" * 40_000 + '"', "\n" * 70_000 + "x"])
@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz"])
def test_the_separator_is_found_however_far_it_is(tmp_path, before, name):
    content = f"{before};b\n1;2\n".encode()
    columns, rows = table_of(write(tmp_path, name, gzip.compress(content) if "gz" in name else content))
    assert (columns[1], list(rows[0].values())) == ("b", ["1", "2"])


@pytest.mark.parametrize("line", ['{"a": 1', '{"a": 1,', '{"a": tru', '{"a": [1', '{"a": "x'])
def test_an_unfinished_line_of_json_is_placed_in_itself(tmp_path, line):
    with pytest.raises(json.JSONDecodeError) as expected:
        json.loads(line)
    with pytest.raises(ManifestError) as error:
        table_of(write(tmp_path, "a.jsonl", f'{{"a": 0}}\n{line}\n{{"a": 2}}\n'))
    assert error.value.reason.startswith(f"line 2 is not JSON ({expected.value})")


@pytest.mark.parametrize("fault", [b"a,b\n1\n", b"a,a\n", b'a,b\n"x"y,1\n', b"a,b\n\xff,1\n", b",b\n"])
def test_a_damaged_gzip_is_the_reason_before_what_it_unpacks_to(tmp_path, fault):
    packed = bytearray(gzip.compress(fault + b"1,2\n" * 50_000))
    packed[-5] ^= 1
    with pytest.raises(ManifestError, match="cannot be decompressed"):
        table_of(write(tmp_path, "a.csv.gz", bytes(packed)))


@pytest.mark.parametrize("days", [2**52, -(2**52)])
def test_parquet_with_a_time_that_python_has_not_is_refused(tmp_path, days):
    pyarrow = pytest.importorskip("pyarrow")
    table = pyarrow.table({"a": pyarrow.array([days], pyarrow.timestamp("ms"))})
    pytest.importorskip("pyarrow.parquet").write_table(table, tmp_path / "a.parquet")
    with pytest.raises(ManifestError, match=r"a.parquet: is not a Parquet file that can be read \(.*; write it again"):
        table_of(tmp_path / "a.parquet")


@pytest.mark.parametrize("text", [b"\xff", b"r\xe9d", b"\xc3", b"\x80x", b"ab\xb8"])
def test_parquet_with_text_that_is_not_utf8_is_refused(tmp_path, text):
    pyarrow = pytest.importorskip("pyarrow")
    offsets = b"".join(number.to_bytes(4, "little") for number in (0, len(text)))
    buffers = [None, pyarrow.py_buffer(offsets), pyarrow.py_buffer(text)]
    column = pyarrow.Array.from_buffers(pyarrow.string(), 1, buffers)
    pytest.importorskip("pyarrow.parquet").write_table(pyarrow.table({"a": column}), tmp_path / "a.parquet")
    with pytest.raises(ManifestError, match=r"is not a Parquet file that can be read \('utf-8'"):
        table_of(tmp_path / "a.parquet")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_pipe_is_read_once(tmp_path):
    os.mkfifo(tmp_path / "a.csv")
    writer = threading.Thread(target=(tmp_path / "a.csv").write_text, args=("a,b\n1,2\n",))
    writer.start()
    records = read_records(tmp_path / "a.csv", lazily=True)
    writer.join()
    assert list(records.rows) == list(records.rows) == [{"a": "1", "b": "2"}]
