"""Rows of files: JSON lines, a JSON array, CSV, TSV, Parquet; each also gzipped, in UTF-8 or UTF-16."""

import codecs
import csv
import gzip
import io
import json
import re
import zlib
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import IO, Any

from ..errors import UserError, first_line

Row = tuple[str, dict[str, Any]]  # where it is, for messages, and its values by column

SUFFIXES = {
    ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "json", ".csv": "csv", ".tsv": "tsv", ".tab": "tsv",
    ".parquet": "parquet", ".pq": "parquet",
}  # fmt: skip
UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
BAD_BYTE = re.compile("[\udc80-\udcff]")  # what `surrogateescape` makes of a byte that is not UTF-8
BLANK = re.compile(r"[ \t\n]*")
FIELD_LIMIT = 2**30  # characters of a CSV field; Python's own limit of 131,072 is too small for a long text


def file_format(path: Path) -> str:
    """The format of a file by its name: jsonl, json, csv, tsv or parquet; `.gz` is left aside.

    Raises:
        UserError: The name has another ending.
    """
    name = path.with_suffix("") if path.suffix.lower() == ".gz" else path
    if name.suffix.lower() not in SUFFIXES:
        raise UserError(
            f"{path}: unknown kind of file: name it {', '.join(sorted(SUFFIXES))}, each also with .gz"
        )
    return SUFFIXES[name.suffix.lower()]


def iter_rows(path: Path) -> Iterator[Row]:
    """The rows of a file, in its order, each with its place (`file:line`, counted from 1).

    Whether a file of JSON holds an object a line or one array is seen by its first character, whether it is
    gzipped by its first two bytes. One row is in memory at a time, but for a JSON array, whose text is held
    whole.

    Args:
        path: Its name says the format (`file_format`); a name with another ending is read as JSON.

    Raises:
        UserError: Naming file and line: absent, not what its name says, neither UTF-8 nor UTF-16 with a mark,
            broken.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    suffix = path.with_suffix("").suffix if path.suffix.lower() == ".gz" else path.suffix
    kind = SUFFIXES.get(suffix.lower())
    name = str(path)
    try:
        with path.open("rb") as packed:
            is_gzip = packed.peek(2)[:2] == b"\x1f\x8b"
            with gzip.open(packed) if is_gzip else packed as file:
                if kind == "parquet":
                    yield from _parquet_rows(file, name)
                    return
                with _decoded(file) as text:
                    lines = _lines(text, name)
                    if kind in ("csv", "tsv"):
                        yield from _separated_rows(lines, name, "\t" if kind == "tsv" else None)
                    else:
                        yield from _json_rows(lines, name, known=kind is not None)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise UserError(f"{path}: not a whole gzip file ({first_line(error)}): pack it again") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from error


def _decoded(file: "IO[bytes] | gzip.GzipFile") -> io.TextIOWrapper:
    """A text file, in the encoding that the mark at its beginning says.

    A byte that is not UTF-8 becomes half a surrogate pair.
    """
    if file.peek(2)[:2] in UTF_16:  # type: ignore[union-attr]
        return io.TextIOWrapper(file, "utf-16", newline="")
    return io.TextIOWrapper(file, "utf-8-sig", errors="surrogateescape", newline="")


def _lines(text: io.TextIOWrapper, name: str) -> Iterator[str]:
    """The lines of a text file, ended by LF, CRLF or CR as they are there.

    Raises UserError for what is no text.
    """
    number = 0
    try:
        for number, line in enumerate(text, start=1):
            if not line.isascii() and (bad := BAD_BYTE.search(line)):
                byte = len(line[: bad.start()].encode()) + 1
                raise UserError(f"{name}:{number}: byte {byte} is not UTF-8: save the file as UTF-8")
            if "\0" in line:
                raise UserError(f"{name}:{number}: a NUL byte: save the file as text in UTF-8")
            yield line
    except UnicodeError as error:
        raise UserError(
            f"{name}:{number + 1}: not UTF-16, as the mark at its beginning says: save it as UTF-8"
        ) from error


def _json_rows(lines: Iterator[str], name: str, known: bool) -> Iterator[Row]:
    """One object a line, or the objects of one array.

    Args:
        lines: Of the file.
        name: Of the file, for messages.
        known: Whether the file's name says that it is JSON.
    """
    is_first = True
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        if is_first and line.lstrip()[0] == "[":
            yield from _array_rows("\n" * (number - 1) + line + "".join(lines), name)
            return
        if is_first and not known and line.lstrip()[0] != "{":
            raise UserError(
                f"{name}: unknown kind of file: name it {', '.join(sorted(SUFFIXES))}, each also with .gz"
            )
        is_first = False
        yield f"{name}:{number}", _json_object(line, f"{name}:{number}")


def _json_object(line: str, where: str) -> dict[str, Any]:
    try:
        row = json.loads(line.rstrip("\r\n"))
    except json.JSONDecodeError as error:
        raise UserError(f"{where}: broken JSON ({error.msg} at column {error.colno})") from error
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, a thousand brackets
        raise UserError(f"{where}: broken JSON ({first_line(error).split(';')[0]})") from error
    return _as_object(row, where)


def _as_object(row: Any, where: str) -> dict[str, Any]:
    if not isinstance(row, dict):
        raise UserError(f"{where}: a JSON object is expected, not {type(row).__name__}")
    return row


def _array_rows(text: str, name: str) -> Iterator[Row]:
    """The objects of one JSON array, each with the line on which it begins."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    decoder, line, counted = json.JSONDecoder(), 1, 0

    def skip(position: int) -> int:
        blank = BLANK.match(text, position)
        assert blank is not None
        return blank.end()

    def broken(message: str, position: int) -> UserError:
        where = f"{name}:{text.count(chr(10), 0, position) + 1}"
        return UserError(
            f"{where}: broken JSON ({message} at column {position - text.rfind(chr(10), 0, position)})"
        )

    position = skip(skip(0) + 1)
    if text[position : position + 1] == "]":
        return
    while True:
        line, counted = line + text.count("\n", counted, position), position
        try:
            row, position = decoder.raw_decode(text, position)
        except json.JSONDecodeError as error:
            raise broken(error.msg, error.pos) from error
        except (ValueError, RecursionError) as error:
            raise UserError(f"{name}:{line}: broken JSON ({first_line(error).split(';')[0]})") from error
        yield f"{name}:{line}", _as_object(row, f"{name}:{line}")
        position = skip(position)
        if text[position : position + 1] == "]":
            if skip(position + 1) < len(text):
                raise broken("text after the array", skip(position + 1))
            return
        if text[position : position + 1] != ",":
            raise broken("Expecting ',' or ']'", position)
        position = skip(position + 1)


def _separated_rows(lines: Iterator[str], name: str, delimiter: str | None) -> Iterator[Row]:
    """The rows of CSV or TSV under their header.

    Args:
        lines: Of the file.
        name: Of the file, for messages.
        delimiter: Between the fields; None = the first of comma, semicolon and tab that the header has.
    """
    head: list[str] = []  # to the first line that is not blank
    for line in lines:
        head.append(line)
        if line.strip():
            break
    delimiter = delimiter or next((sign for sign in ",;\t" if sign in "".join(head)), ",")
    csv.field_size_limit(FIELD_LIMIT)
    reader = csv.reader(chain(head, lines), delimiter=delimiter, strict=True)
    header: list[str] | None = None
    begin = 1  # the line on which a row begins: an open quote is noticed at the end of the file only
    try:
        for row in reader:
            where, begin = f"{name}:{begin}", reader.line_num + 1
            if not any(row):
                continue
            if header is None:
                header = [column.strip() for column in row]
                if len(set(header)) < len(header):
                    twice = next(column for column in header if header.count(column) > 1)
                    raise UserError(f"{where}: two columns are named {twice!r}: rename one")
                continue
            if len(row) != len(header):
                fields = f"{len(row)} fields where the header has {len(header)}"
                raise UserError(f"{where}: {fields}: quote fields that hold {delimiter!r}")
            yield where, dict(zip(header, row, strict=True))
    except csv.Error as error:
        raise UserError(f"{name}:{begin}: a quote that is broken or never closed ({error})") from error


def _parquet_rows(file: "IO[bytes] | gzip.GzipFile", name: str) -> Iterator[Row]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    # Parquet is read from its end
    source = io.BytesIO(file.read()) if isinstance(file, gzip.GzipFile) else file
    number = 0
    try:
        for batch in pq.ParquetFile(source).iter_batches(10_000):
            for row in batch.to_pylist():
                number += 1
                yield f"{name}: row {number}", row
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{name}: not readable as Parquet ({first_line(error)})") from error
