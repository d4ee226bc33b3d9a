"""Damaged files are read, or refused in one line; what is made of them is whole or not there."""

import dataclasses
import gzip
import io
import json
import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.fuzz import FUZZ, damaged
from synthweight.data.examples import iter_examples, write_jsonl
from synthweight.errors import UserError
from synthweight.workbench.read import read_table

ROWS = [
    {"id": "a", "text": 'It’s, "fine"', "label": "x"}, {"id": "7", "text": "दाध खट्टी\tथी 👎", "label": "y"},
    {"id": "c", "text": "two\nlines", "label": "1"},
]  # fmt: skip
LINES = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS)
NUMBERS = (
    '{"text": "a", "text_pair": "b", "label": 1.0, "id": 3}\n{"text": "c", "text_pair": "d", "label": true}\n'
)


def separated(sign: str, end: str) -> str:
    quoted = [['"' + value.replace('"', '""') + '"' for value in row.values()] for row in ROWS]
    return "".join(sign.join(row) + end for row in [list(ROWS[0]), *quoted])


def packed(data: bytes) -> bytes:
    return gzip.compress(data, mtime=0)


def parquet() -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(ROWS), file)
    return file.getvalue()


TEXTS = [LINES, LINES.replace("\n", "\r\n"), json.dumps(ROWS), json.dumps(ROWS, indent=1), NUMBERS,
         separated(",", "\n"), separated(";", "\r\n"), separated("\t", "\r")]  # fmt: skip
PLAIN = [text.encode(code) for text in TEXTS for code in ("utf-8", "utf-8-sig", "utf-16")]
FILES = [*PLAIN, *map(packed, PLAIN[::3]), parquet(), packed(parquet())]
SUFFIXES = [".jsonl", ".json", ".csv", ".tsv", ".parquet", "", ".jsonl.gz", ".csv.gz", ".parquet.gz"]
PIECES = [
    b"\0", b"\n", b"\r", b'"', b"'", b",", b";", b"\t", b"{", b"}", b"[", b"]", b":", b"\\", b"\\u",
    b"\\ud800", b"null", b"NaN", b"1e999", b"-1", b"9" * 5000, b"[" * 5000, b'{"text":' * 300, b"\xff",
    b"\xfe\xff", b"\xff\xfe", b"\xef\xbb\xbf", b"\x1f\x8b", b"\xed\xa0\x80", b"\xc3", "\u2028\x85".encode(),
    b"\x1a", b"PAR1", b'"text": "t", ', b'"label": [1], ', b'"id": {}, ', b"label",
]  # fmt: skip


@FUZZ
@given(content=damaged(FILES, PIECES), suffix=st.sampled_from(SUFFIXES))
def test_a_damaged_file_is_read_or_refused_in_one_line(content, suffix):
    with tempfile.TemporaryDirectory() as folder:
        path, out = Path(folder, f"a{suffix}"), Path(folder, "out.jsonl")
        path.write_bytes(content)
        try:
            write_jsonl(out, (row_of(e) for e in iter_examples(path, "test")))
        except UserError as error:
            refused(error, path)
            assert [p.name for p in Path(folder).iterdir()] == [path.name]
        else:
            assert list(iter_examples(out, "test")) == list(iter_examples(path, "test"))


def row_of(example):
    return {key: value for key, value in dataclasses.asdict(example).items() if value is not None}


@FUZZ
@given(content=damaged(FILES, PIECES), suffix=st.sampled_from(SUFFIXES[:5]))
def test_what_fit_is_given_is_read_or_refused_in_one_line(content, suffix):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"a{suffix}")
        path.write_bytes(content)
        try:
            table = read_table(path, "real")
        except UserError as error:
            refused(error, path)
        else:
            assert all(e.text.strip() and e.label for e in table.examples)


def refused(error: UserError, path: Path) -> None:
    """One line that names the file."""
    assert str(path) in str(error)
    assert "\n" not in str(error), error


def test_a_source_that_fails_half_way_leaves_no_file(tmp_path):
    def rows():
        yield {"text": "a"}
        raise UserError("broken")

    with pytest.raises(UserError, match="broken"):
        write_jsonl(tmp_path / "sub" / "out.jsonl", rows())
    assert not list((tmp_path / "sub").iterdir())
