"""A labelled text, and how a file's rows become such. Hashes and keys are fixed by docs/format.md."""

import hashlib
import json
import re
import sys
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

from ..atomic_io import atomic_path
from ..errors import UserError
from .readers import iter_rows


@dataclass(frozen=True, slots=True)
class Example:
    """One labelled text or pair.

    Args:
        id: unique in its split.
        text: the first or only text.
        text_pair: the second text; None where there is one only.
        label: the class's name.
        kind: original, swapped, duplicated or unrelated.
        origin: id of the example that it was made from.
    """

    id: str
    text: str
    text_pair: str | None
    label: str
    kind: str = "original"
    origin: str | None = None


Examples = Sequence[Example]  # a tuple, or where they are many an `on_disk.OnDiskExamples`


@dataclass(frozen=True)
class LoadedSplit:
    """A split of a benchmark as it was read.

    Args:
        name: of the split.
        examples: in the file's order.
        sha256: its data hash.
        where: where it came from, for messages.
    """

    name: str
    examples: Examples
    sha256: str
    where: str

    @cached_property
    def labels(self) -> frozenset[str]:
        """The labels that occur; of many examples a pass over all of them, once."""
        return frozenset(e.label for e in self.examples)


def text_hash(example: Example) -> str:
    r"""SHA-256 of `text + "\x1f" + (text_pair or "")`, texts stripped."""
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
    r"""A text in NFKC and casefolded, each run of white space and punctuation one space, none at the ends.

    Punctuation is what Unicode calls so (categories P*), except `# % & * - / @ \ _`, emoticons such as `:-(`
    and `!=`: they tell texts such as "C#" and "C", "-5" and "5" apart. Letters, marks, numbers, symbols and
    emoji of every script stay. A text of nothing but punctuation is kept as it is, in NFKC.
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


def iter_examples(path: Path, split: str) -> Iterator[Example]:
    """The examples of one file, in file order; what files there may be, `readers.iter_rows` says.

    Args:
        path: Of the file, with the columns text, label and perhaps text_pair and id.
        split: Of which it holds the examples; the first part of the ids that the file does not give.

    Raises:
        UserError: Naming file and line: what `iter_rows` refuses, a missing or mistyped field, an empty text,
            a duplicate id, text_pair in some rows only; or a file without any example.
    """
    numbers: dict[str, int] = {}  # of the examples, from 0, by id
    first_with: dict[bool, int] = {}  # the first example without a pair, and with one
    for number, (where, row) in enumerate(iter_rows(path)):
        example = _example(row, where, f"{split}:{number}")
        if example.id in numbers:
            raise UserError(
                f"{where}: id {example.id!r} is already that of {place_of(path, numbers[example.id])}: ids are unique"
            )
        numbers[example.id] = number
        first_with.setdefault(example.text_pair is not None, number)
        if len(first_with) == 2:
            places = {with_pair: place_of(path, at) for with_pair, at in first_with.items()}
            raise UserError(
                f"{where}: text_pair in some rows only ({places[True]} has one, {places[False]} none)"
            )
        yield example
    if not numbers:
        raise UserError(
            f"{path}: holds no example: one JSON object a line is expected, or rows under a header"
        )


def place_of(path: Path, number: int) -> str:
    """Where an example of a file lies (`file:line`, from 1).

    Args:
        path: Of the file, which can be read.
        number: Of the example, from 0.
    """
    return next(islice(iter_rows(path), number, None))[0]


def _example(row: dict[str, Any], where: str, default_id: str) -> Example:
    text, pair = _text(row, "text", where), None
    if row.get("text_pair") is not None:
        pair = _text(row, "text_pair", where)
    label = label_name(row.get("label"), where)
    identity = default_id if row.get("id") is None else row["id"]
    if not isinstance(identity, (str, int)) or isinstance(identity, bool) or identity == "":
        raise UserError(f"{where}: id must be a string or an integer, is {identity!r}")
    try:
        "".join([str(identity), text, pair or "", label]).encode()
    except UnicodeEncodeError as error:
        raise UserError(
            f"{where}: half a surrogate pair ({error.object[error.start]!r}) is no text"
        ) from error
    return Example(str(identity), text, pair, sys.intern(label))


def _text(row: dict[str, Any], field: str, where: str) -> str:
    if field not in row:
        there = ", ".join(map(str, islice(row, 8))) or "none"
        raise UserError(f"{where}: field {field!r} is missing; there are {there}")
    text = row[field]
    if not isinstance(text, str):
        raise UserError(f"{where}: {field} must be a string, is {type(text).__name__}")
    if not text.strip():
        raise UserError(f"{where}: {field} is empty")
    return text


def label_name(value: Any, where: str) -> str:
    """A label as a name: a string as it is, a whole number by its digits, a truth value as `True` or `False`.

    Args:
        value: As the file has it. 1 and 1.0 are one label.
        where: Its place, for messages.

    Raises:
        UserError: There is none, or it is something else.
    """
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if value is None or (isinstance(value, str) and not value.strip()):
        raise UserError(f"{where}: field 'label' is missing or empty: every example needs a label")
    if not isinstance(value, str | int):
        raise UserError(f"{where}: label must be a name or a whole number, is {value!r}")
    return str(value)


def write_jsonl(path: Path, rows: Iterable[dict[str, str]]) -> None:
    """Writes beside and moves into place, so that a killed process leaves no half file.

    Args:
        path: replaced if it exists.
        rows: one per line.
    """
    with atomic_path(path) as part, part.open("w", encoding="utf-8", newline="\n") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
