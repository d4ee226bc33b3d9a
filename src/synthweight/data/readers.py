"""Rows of a file of any common format, one at a time: CSV, TSV, JSONL, a JSON array, Parquet; each also gzipped."""

import csv
import gzip
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from ..errors import UserError

Row = tuple[str, dict[str, Any]]  # where it is, for messages, and its values by column
FORMATS = ("csv", "tsv", "jsonl", "json", "parquet")
SUFFIXES = {".csv": "csv", ".tsv": "tsv", ".tab": "tsv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "json"}
SUFFIXES |= {".parquet": "parquet", ".pq": "parquet"}


def file_format(path: Path) -> str:
    """One of FORMATS by the file's name, `.gz` aside. Raises UserError for any other name."""
    name = path.with_suffix("") if path.suffix == ".gz" else path
    if name.suffix.lower() not in SUFFIXES:
        raise UserError(f"{path}: unknown kind of file: name it {', '.join(sorted(SUFFIXES))}, each also .gz")
    return SUFFIXES[name.suffix.lower()]


def iter_rows(path: Path) -> Iterator[Row]:
    """The rows of a file in its order; only Parquet's batches and a JSON array are held.

    Raises:
        UserError: naming the file and the line: not readable as what its name says, or a NUL byte.
    """
    kind = file_format(path)
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    try:
        if kind == "parquet":
            yield from _parquet(path)
        else:
            with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
                yield from parse(file, kind, str(path))
    except (gzip.BadGzipFile, EOFError) as error:
        raise UserError(f"{path}: not a whole gzip file ({error})") from error


def parse(file: "IO[bytes] | gzip.GzipFile", kind: str, name: str) -> Iterator[Row]:
    """The rows of an open file of text: csv, tsv, jsonl or json. Raises UserError as `iter_rows` does."""
    if kind in ("csv", "tsv"):
        yield from _separated(file, name, "," if kind == "csv" else "\t")
    elif kind == "jsonl":
        for number, line in enumerate(_lines(file, name), start=1):
            if line.strip():
                yield f"{name}:{number}", _object(line, f"{name}:{number}")
    else:
        try:
            rows = json.loads("".join(_lines(file, name)))
        except (ValueError, RecursionError) as error:
            raise UserError(f"{name}: broken JSON ({error})") from error
        if not isinstance(rows, list):
            raise UserError(f"{name}: a JSON array of objects is expected (one object a line is .jsonl)")
        for number, row in enumerate(rows, start=1):
            if not isinstance(row, dict):
                raise UserError(f"{name}: item {number}: a JSON object is expected, not {type(row).__name__}")
            yield f"{name}: item {number}", row


def _lines(file: "IO[bytes] | gzip.GzipFile", name: str) -> Iterator[str]:
    for number, raw in enumerate(file, start=1):
        if b"\0" in raw:
            raise UserError(f"{name}:{number}: a NUL byte: save the file as UTF-8 text")
        try:
            yield raw.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise UserError(f"{name}:{number}: byte {error.start + 1} is not UTF-8: save the file as UTF-8") from error


def _object(line: str, where: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where}: broken JSON ({str(error).split(';')[0]})") from error
    if not isinstance(row, dict):
        raise UserError(f"{where}: a JSON object is expected, not {type(row).__name__}")
    return row


def _separated(file: "IO[bytes] | gzip.GzipFile", name: str, delimiter: str) -> Iterator[Row]:
    csv.field_size_limit(2**30)
    reader = csv.reader(_lines(file, name), delimiter=delimiter, strict=True)
    header: list[str] | None = None
    started = 1  # the line where the row begins: a broken quote is there, and not where the file ends
    try:
        for row in reader:
            where, started = f"{name}:{started}", reader.line_num + 1
            if not any(row):
                continue
            if header is None:
                header = [column.strip() for column in row]
                if len(set(header)) < len(header):
                    twice = next(column for column in header if header.count(column) > 1)
                    raise UserError(f"{where}: two columns are named {twice!r}: rename one")
                continue
            if len(row) != len(header):
                raise UserError(
                    f"{where}: {len(row)} fields where the header has {len(header)}: quote fields that hold {delimiter!r}"
                )
            yield where, dict(zip(header, row, strict=True))
    except csv.Error as error:
        raise UserError(f"{name}:{started}: a quote that is broken or never closed ({error})") from error


def _parquet(path: Path) -> Iterator[Row]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        source: Any = io.BytesIO(gzip.decompress(path.read_bytes())) if path.suffix == ".gz" else path
        number = 0
        for batch in pq.ParquetFile(source).iter_batches(10_000):
            for row in batch.to_pylist():
                number += 1
                yield f"{path}: row {number}", row
    except pa.ArrowException as error:
        raise UserError(f"{path}: not readable as Parquet ({str(error).splitlines()[0]})") from error
