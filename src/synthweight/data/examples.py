"""One labelled text, and the JSONL files that hold them. Hashes are fixed by docs/format.md."""

import hashlib
import json
import re
import sys
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ..atomic_io import atomic_path
from ..errors import UserError


@dataclass(frozen=True, slots=True)
class Example:
    """One labelled text or pair. `kind`: original, swapped, duplicated, unrelated; `origin`: the id it came from."""

    id: str
    text: str
    text_pair: str | None
    label: str
    kind: str = "original"
    origin: str | None = None


Examples = Sequence[Example]  # a tuple, or where they are many a shelf (`shelf.py`)


@dataclass(frozen=True)
class Split:
    """A benchmark's split as it was read: `sha256` is its data hash, `where` a word for messages."""

    name: str
    examples: Examples
    sha256: str
    where: str

    @cached_property
    def labels(self) -> frozenset[str]:
        """Those that there are; of many examples a pass over all of them, once."""
        return frozenset(e.label for e in self.examples)


def text_hash(example: Example) -> str:
    """SHA-256 of `text + "\\x1f" + (text_pair or "")`, texts stripped."""
    whole = example.text.strip() + "\x1f" + (example.text_pair or "").strip()
    return hashlib.sha256(whole.encode()).hexdigest()


def data_hash(examples: Iterable[Example]) -> str:
    """SHA-256 over the examples in order, each one line of JSON: [id, text, text_pair, label]."""
    digest = hashlib.sha256()
    for e in examples:
        line = json.dumps([e.id, e.text, e.text_pair, e.label], ensure_ascii=False, separators=(",", ":"))
        digest.update((line + "\n").encode())
    return digest.hexdigest()


def overlap_key(example: Example) -> tuple[str, str]:
    """What two examples share when they differ only in case, white space, punctuation or Unicode form."""
    return folded(example.text), folded(example.text_pair or "")


def folded(text: str) -> str:
    """A text in NFKC and casefolded, each run of white space and punctuation one space, none at the ends.

    Punctuation is what Unicode calls so (categories P*), except `# % & * - / @ \\ _`, emoticons such as `:-(` and `!=`: they
    tell texts such as "C#" and "C", "-5" and "5" apart. Letters, marks, numbers, symbols and emoji of every script stay. A
    text of nothing but punctuation is kept as it is, in NFKC.
    """
    plain = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    between = KEPT_PUNCTUATION.split(plain)
    between[::2] = [part.translate(PUNCTUATION_TO_SPACE) for part in between[::2]]
    return " ".join(" ".join(between).split()) or plain.strip()


class _PunctuationToSpace(dict[int, str]):
    """A table for `str.translate`, filled as characters are met."""

    def __missing__(self, code: int) -> str:
        char = chr(code)
        is_folded = unicodedata.category(char).startswith("P") and char not in "#%&*-/@\\_"
        self[code] = " " if is_folded else char
        return self[code]


PUNCTUATION_TO_SPACE = _PunctuationToSpace()
KEPT_PUNCTUATION = re.compile(r"([:;]-?[()\[\]]|!=)")


def each(path: Path, split: str, labels: Sequence[str] | None) -> Iterator[Example]:
    """The examples of one file, in file order. `labels` None accepts any label. A BOM and CRLF are accepted.

    Raises:
        UserError: naming file and line: bytes that are not UTF-8, broken JSON, a missing or mistyped field, an empty
            text, an unknown label, a duplicate id, text_pair in some rows only; or a file without any example.
    """
    seen: dict[str, int] = {}
    pair_line: dict[bool, int] = {}
    with path.open("rb") as file:  # line by line: of a large file nothing but its examples is ever held
        for number, line in enumerate(file, start=1):
            line = line.removesuffix(b"\n").removeprefix(b"\xef\xbb\xbf" if number == 1 else b"")
            if not line.strip():
                continue
            where = f"{path}:{number}"
            example = _parse(line, where, f"{split}:{number - 1}", labels)
            if example.id in seen:
                raise UserError(f"{where}: id {example.id!r} is already that of line {seen[example.id]}: ids must be unique")
            seen[example.id] = number
            pair_line.setdefault(example.text_pair is not None, number)
            if len(pair_line) == 2:
                raise UserError(f"{where}: text_pair in some rows only (line {pair_line[True]} has one, {pair_line[False]} none)")
            yield example
    if not seen:
        raise UserError(f"{path}: holds no example: one JSON object a line is expected")


def _parse(line: bytes, where: str, default_id: str, labels: Sequence[str] | None) -> Example:
    try:
        row = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise UserError(f"{where}: byte {error.start + 1} is not UTF-8: save the file as UTF-8") from error
    except json.JSONDecodeError as error:
        raise UserError(f"{where}: broken JSON ({error.msg} at column {error.colno})") from error
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, a thousand brackets
        raise UserError(f"{where}: broken JSON ({str(error).split(';')[0]})") from error
    if not isinstance(row, dict):
        raise UserError(f"{where}: a JSON object is expected, not {type(row).__name__}")
    text, pair, label = _text(row, "text", where), None, row.get("label")
    if row.get("text_pair") is not None:
        pair = _text(row, "text_pair", where)
    if label is None:
        raise UserError(f"{where}: field 'label' is missing")
    if not isinstance(label, str) or not label.strip():
        raise UserError(f"{where}: label must be a name (a string), is {label!r}")
    if labels is not None and label not in labels:
        raise UserError(f"{where}: unknown label {label!r}: there are {', '.join(sorted(labels))}")
    identity = row.get("id", default_id)
    if not isinstance(identity, (str, int)) or isinstance(identity, bool) or identity == "":
        raise UserError(f"{where}: id must be a string or an integer, is {identity!r}")
    try:
        "".join([str(identity), text, pair or "", label]).encode()
    except UnicodeEncodeError as error:
        raise UserError(f"{where}: half a surrogate pair ({error.object[error.start]!r}) is no text") from error
    return Example(str(identity), text, pair, sys.intern(label))


def _text(row: dict[str, Any], field: str, where: str) -> str:
    if field not in row:
        raise UserError(f"{where}: field {field!r} is missing")
    text = row[field]
    if not isinstance(text, str):
        raise UserError(f"{where}: {field} must be a string, is {type(text).__name__}")
    if not text.strip():
        raise UserError(f"{where}: {field} is empty")
    return text


def write_jsonl(path: Path, rows: Iterable[dict[str, str]]) -> None:
    """Writes beside and moves into place, so that a killed process leaves no half file."""
    with atomic_path(path) as part, part.open("w", encoding="utf-8", newline="\n") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
