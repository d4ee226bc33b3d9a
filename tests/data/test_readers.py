"""Files that people have, row by row: formats, encodings, line ends, gzip; and what is refused, by file and
line.
"""

import gzip
import json
import re

import pytest

from synthweight.data.on_disk import read_examples
from synthweight.data.readers import file_format, iter_rows
from synthweight.errors import UserError

ROWS = [
    {"text": "It’s “fine”", "label": "x"},
    {"text": "two\nlines, a comma; and \"quotes\"", "label": "y"},
    {"text": "दाध खट्टी थी 👎", "label": "x"},
]  # fmt: skip


def as_csv(rows, sign=",", end="\n"):
    quoted = [[value.replace('"', '""') for value in row.values()] for row in rows]
    return end.join(sign.join(f'"{value}"' for value in row) for row in [list(rows[0]), *quoted]) + end


LINES = "\n".join(json.dumps(row, ensure_ascii=False) for row in ROWS) + "\n"
TEXTS = {
    "a.jsonl": LINES,
    "windows.jsonl": LINES.replace("\n", "\r\n"),
    "old_mac.jsonl": LINES.replace("\n", "\r"),
    "blank_lines.ndjson": "\n \n" + LINES.replace("\n", "\n\n"),
    "array.json": json.dumps(ROWS),
    "array_named_otherwise.jsonl": json.dumps(ROWS, indent=1, ensure_ascii=False),
    "lines_named_otherwise.json": LINES,
    "no_name": LINES,
    "a.csv": as_csv(ROWS),
    "windows.csv": as_csv(ROWS, end="\r\n"),
    "old_mac.csv": as_csv(ROWS, end="\r"),
    "semicolons.csv": as_csv(ROWS, ";"),
    "tabs.csv": as_csv(ROWS, "\t"),
    "a.tsv": as_csv(ROWS, "\t"),
    "a.tab": as_csv(ROWS, "\t"),
}


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("name", TEXTS)
def test_every_format_gives_the_same_rows(tmp_path, name, encoding, packed):
    path = tmp_path / f"{name}{'.gz' if packed else ''}"
    data = TEXTS[name].encode(encoding)
    path.write_bytes(gzip.compress(data) if packed else data)
    assert [row for _, row in iter_rows(path)] == ROWS


@pytest.mark.parametrize("packed", [False, True])
def test_parquet(tmp_path, packed):
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = tmp_path / "a.parquet"
    pq.write_table(pa.Table.from_pylist(ROWS), path)
    if packed:
        path = tmp_path / "b.parquet.gz"
        path.write_bytes(gzip.compress((tmp_path / "a.parquet").read_bytes()))
    assert list(iter_rows(path)) == [(f"{path}: row {i}", row) for i, row in enumerate(ROWS, start=1)]


def test_a_gzipped_file_needs_no_ending(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(gzip.compress(LINES.encode()))
    assert [row for _, row in iter_rows(tmp_path / "a.jsonl")] == ROWS


@pytest.mark.parametrize(
    ("name", "text", "lines"),
    [
        ("a.jsonl", LINES.replace("\n", "\n\n"), [1, 3, 5]),
        ("a.json", json.dumps(ROWS, indent=1, ensure_ascii=False), [2, 6, 10]),
        ("a.json", "\n\n" + json.dumps(ROWS), [3, 3, 3]),
        ("a.csv", as_csv(ROWS), [2, 3, 5]),
        ("a.csv", "\n\n" + as_csv(ROWS), [4, 5, 7]),
        ("a.csv", as_csv(ROWS, end="\r"), [2, 3, 5]),
    ],
)
def test_places_are_lines_from_one(tmp_path, name, text, lines):
    path = tmp_path / name
    path.write_bytes(text.encode())
    assert [where for where, _ in iter_rows(path)] == [f"{path}:{line}" for line in lines]


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.jsonl", b'{"a": 1}\n{"b"\n', ":2: broken JSON (Expecting ':' delimiter at column 5)"),
        ("a.jsonl", b'{"a": 1}\n[1]\n', ":2: a JSON object is expected, not list"),
        ("a.jsonl", b'{"a": 1}\n{"a": "caf\xe9"}\n', ":2: byte 11 is not UTF-8: save the file as UTF-8"),
        ("a.csv", "a,b\n1,2\né,".encode() + b"\xe9\n", ":3: byte 4 is not UTF-8"),
        ("a.csv", "a,b\n".encode("utf-16-le"), ":1: a NUL byte"),
        ("a.csv", "a,b\n1,2\n".encode("utf-16")[:-1], ": not UTF-16, as the mark at its beginning says"),
        ("a.json", b'[\n{"a": 1},\n{"a" 1}]', ":3: broken JSON (Expecting ':' delimiter at column 6)"),
        ("a.json", b'[\n{"a": 1}\n', ":3: broken JSON (Expecting ',' or ']' at column 1)"),
        ("a.json", b"[\n", ":2: broken JSON (Expecting value at column 1)"),
        ("a.json", b'[{"a": 1}]\n{"a": 1}', ":2: broken JSON (text after the array at column 1)"),
        ("a.json", b'[{"a": 1},\n2]', ":2: a JSON object is expected, not int"),
        ("a.json", b"[" * 100_000, ":1: broken JSON (maximum recursion depth exceeded"),
        ("a.jsonl", b'{"a": ' + b"9" * 5000 + b"}", ":1: broken JSON (Exceeds the limit"),
        ("a.csv", b'a,b\n1,2\n"open,3\n', ":3: a quote that is broken or never closed"),
        ("a.csv", b"a,b\n1,2,3\n", ":2: 3 fields where the header has 2: quote fields that hold ','"),
        ("a.csv", b"a,a\n1,2\n", ":1: two columns are named 'a': rename one"),
        ("a.jsonl.gz", gzip.compress(LINES.encode())[:-9], ": not a whole gzip file"),
        ("a.jsonl.gz", b"\x1f\x8b", ": not a whole gzip file"),
        ("a.parquet", b"PAR1 and no more", ": not readable as Parquet"),
        ("a.xlsx", b"PK\x03\x04rest", ": unknown kind of file: name it .csv, .json, .jsonl"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_refused_by_file_and_line(tmp_path, name, data, message):
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(UserError, match=re.escape(message)) as caught:
        list(iter_rows(path))
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_absent_and_unknown_files(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        list(iter_rows(tmp_path / "a.csv"))
    with pytest.raises(UserError, match="cannot be read|no such file"):
        list(iter_rows(tmp_path))
    assert file_format(tmp_path / "A.CSV.gz") == "csv"
    with pytest.raises(UserError, match="unknown kind of file"):
        file_format(tmp_path / "a.txt")


def test_a_reader_that_is_left_early_closes_its_file(tmp_path, recwarn):
    path = tmp_path / "a.csv.gz"
    path.write_bytes(gzip.compress(as_csv(ROWS).encode()))
    next(iter_rows(path))
    assert not recwarn.list


def test_labels_are_names_whole_numbers_or_truth_values(tmp_path):
    path = tmp_path / "f.jsonl"
    labels = ["a", 1, 0, 2.0, True, False]
    path.write_text("".join(json.dumps({"text": "t", "label": label}) + "\n" for label in labels))
    assert [e.label for e in read_examples(path, "test")] == ["a", "1", "0", "2", "True", "False"]
    (tmp_path / "f.csv").write_text("text,label\nt,1\nu,True\n")
    assert [e.label for e in read_examples(tmp_path / "f.csv", "test")] == ["1", "True"]
