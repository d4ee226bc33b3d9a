"""A user's examples from files, DataFrames and datasets: which column is what, and what is wrong."""

import json
import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..data.examples import Example, overlap_key
from ..data.readers import Row, iter_rows
from ..errors import UserError, first_line

logger = logging.getLogger(__name__)

TEXT: tuple[str, ...] = ("text", "sentence", "review", "tweet", "comment", "message", "content", "body")
TEXT += ("sentence1", "premise")  # the first of a pair
PAIR = ("text_pair", "sentence2", "hypothesis")
LABEL = ("label", "labels", "target", "class", "category", "sentiment", "intent", "rating", "stars", "y")
SHOWN = 8  # names that a message lists


@dataclass(frozen=True)
class Columns:
    """Names of columns; None is guessed.

    Args:
        text: The text.
        text_pair: The second text of a pair.
        label: The label.
    """

    text: str | None = None
    text_pair: str | None = None
    label: str | None = None


@dataclass(frozen=True)
class Table:
    """One set of examples as it was read. `ids` are the user's own, or the rows' numbers from 1 on."""

    name: str
    where: str
    examples: tuple[Example, ...]
    ids: tuple[str, ...]
    columns: Columns
    names: tuple[str, ...]  # of all columns that there were

    @property
    def labels(self) -> Counter[str]:
        """How many examples each label has."""
        return Counter(e.label for e in self.examples)

    def only(self, labels: Iterable[str]) -> "Table":
        """The examples with these labels."""
        wanted = set(labels)
        kept = [(e, i) for e, i in zip(self.examples, self.ids, strict=True) if e.label in wanted]
        return replace(self, examples=tuple(e for e, _ in kept), ids=tuple(i for _, i in kept))


@dataclass(frozen=True)
class UserData:
    """What `fit` is given, checked. `labels` are sorted by name; `test` is None where there is none."""

    real: Table
    synthetic: Table
    test: Table | None
    labels: tuple[str, ...]

    @property
    def pairs(self) -> bool:
        """Whether every example has two texts."""
        return self.real.examples[0].text_pair is not None

    @property
    def conflicts(self) -> dict[str, int]:
        """Per set, how many texts come with more than one label."""
        found = {t.name: labels_by_text(t.examples) for t in (self.real, self.synthetic)}
        return {name: sum(len(labels) > 1 for labels in texts.values()) for name, texts in found.items()}


def labels_by_text(examples: Iterable[Example]) -> dict[tuple[str, str], set[str]]:
    """The labels that a text comes with; texts that differ in case, spaces and punctuation alone are one."""
    found: dict[tuple[str, str], set[str]] = {}
    for e in examples:
        found.setdefault(overlap_key(e), set()).add(e.label)
    return found


def read_all(
    real: Any,
    synthetic: Any,
    test: Any = None,
    columns: Columns = Columns(),
    drop_unknown: bool = False,
) -> UserData:
    """Reads and checks all sets of examples.

    Args:
        real: The real examples: a path, a hub name, a `datasets.Dataset`, a `pandas.DataFrame` or a list of
            dictionaries.
        synthetic: The LLM-written ones.
        test: Real examples that are used once, at the end.
        columns: Names of columns, where they cannot be guessed.
        drop_unknown: Leave out examples whose label the other set does not know, instead of refusing them.

    Raises:
        UserError: What `read_table` raises; one label only, or labels that are no classes; labels of one set
            alone; pairs in some sets only; real and synthetic texts that are the same.
    """
    tables = [read_table(real, "real", columns), read_table(synthetic, "synthetic", columns)]
    if test is not None:
        tables.append(read_table(test, "test", columns))
    require_columns(tables, columns)
    shapes = {table.examples[0].text_pair is not None: table for table in tables}
    if len(shapes) > 1:
        pairs, single = shapes[True].where, shapes[False].where
        raise UserError(f"{pairs} has pairs of texts and {single} has none: one task, one shape")
    tables = same_labels(tables, drop_unknown)
    real_table, synthetic_table = tables[:2]
    labels = tuple(sorted(real_table.labels))
    if len(labels) < 2:
        raise UserError(f"{real_table.where}: one label only ({labels[0]!r}): there is nothing to tell apart")
    if len(labels) > len(real_table.examples) / 2:
        raise UserError(
            f"{real_table.where}: {len(labels)} different labels in {len(real_table.examples)} rows are "
            "hardly classes: name the column of the labels by --label, or give more examples of each"
        )
    keys = [{overlap_key(e) for e in table.examples} for table in tables]
    if keys[1] <= keys[0]:
        same = f"{synthetic_table.where}: every text is in {real_table.where} too"
        raise UserError(f"{same}: there is nothing to learn from it")
    if test is not None and (both := len(keys[0] & keys[2])):
        logger.warning("%s texts of the real set are in the test set too: its result will flatter", both)
    data = UserData(real_table, synthetic_table, tables[2] if test is not None else None, labels)
    return data


def require_columns(tables: Sequence[Table], columns: Columns) -> None:
    """Raises UserError where no table has a column that the user names."""
    for option, column in options(columns).items():
        if column is not None and not any(column in table.names for table in tables):
            there = "; ".join(f"{table.where} has {listed(table.names)}" for table in tables)
            raise UserError(f"{option} {column}: no such column: {there}")


def same_labels(tables: Sequence[Table], drop_unknown: bool) -> list[Table]:
    """The tables with the labels that real and synthetic share. Raises UserError where there are others."""
    real, synthetic = tables[0].labels, tables[1].labels
    known = set(real) & set(synthetic)
    compared = [(tables[1], tables[0]), (tables[0], tables[1]), *((t, tables[0]) for t in tables[2:])]
    for table, other in compared:
        kept = known if drop_unknown else set(other.labels)
        unknown = {label: n for label, n in table.labels.items() if label not in kept}
        if not unknown:
            continue
        named = listed(f"{label!r} ({n})" for label, n in sorted(unknown.items()))
        if not drop_unknown:
            has = listed(map(repr, sorted(other.labels)))
            raise UserError(
                f"{table.where}: labels that {other.where} does not have: {named}; it has {has}: "
                "rename them, or leave their examples out by --drop-unknown"
            )
        n = sum(unknown.values())
        logger.warning(
            "%s: left out %d examples with labels that not all sets have: %s", table.name, n, named
        )
    out = [table.only(known) for table in tables] if drop_unknown else list(tables)
    for table in out:
        if not table.examples:
            raise UserError(f"{table.where}: no example has a label of the other set")
    return out


def listed(names: Iterable[str]) -> str:
    """Names joined by commas, the first few of them."""
    names = list(names)
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def read_table(source: Any, name: str, columns: Columns = Columns()) -> Table:
    """One set of labelled examples.

    Args:
        source: See `read_all`.
        name: `real`, `synthetic` or `test`: the first part of the examples' ids.
        columns: Names of columns, where they cannot be guessed.

    Raises:
        UserError: Naming the place: no rows, no such column, an empty text or label, or of another type.
    """
    where, rows = source_rows(source, name)
    chosen: Columns | None = None
    names: tuple[str, ...] = ()
    examples: list[Example] = []
    given: list[str | None] = []
    for number, (place, row) in enumerate(rows, start=1):
        names = names or tuple(row)
        chosen = chosen or guess(names, columns, where)
        assert chosen.text is not None
        assert chosen.label is not None
        pair = None if chosen.text_pair is None else text_of(row, chosen.text_pair, place)
        label = label_of(row, chosen.label, place)
        examples.append(Example(f"{name}:{number}", text_of(row, chosen.text, place), pair, label))
        own = row.get("id")
        given.append(None if missing(own) or own == "" else str(own))
    if chosen is None:
        raise UserError(f"{where}: holds no example")
    ((common, n),) = Counter(filter(None, given)).most_common(1) or [("", 0)]
    if n > 1:
        logger.warning(
            "%s: the id %r comes twice: its rows are named by their numbers instead", where, common
        )
        given = [None] * len(given)
    before = "row " * any(given)  # not to be taken for an id
    ids = [own or f"{before}{number}" for number, own in enumerate(given, start=1)]
    return Table(name, where, tuple(examples), tuple(ids), chosen, names)


def source_rows(source: Any, name: str) -> tuple[str, Iterator[Row]]:
    """A name for messages, and the rows with their places, of whatever a user may give. Raises UserError."""
    if isinstance(source, str | Path):
        path = Path(source)
        if path.is_dir():
            return str(path), _dataset_rows(_load_folder(path), str(path))
        if path.exists() or path.suffix or path.is_absolute():
            return str(path), iter_rows(path)
        return str(source), _dataset_rows(_load_hub(str(source)), str(source))
    if hasattr(source, "to_dict") and hasattr(source, "columns"):  # a DataFrame
        frame, records = f"the {name} DataFrame", source.to_dict("records")
        return frame, ((f"{frame}, row {i}", row) for i, row in enumerate(records))
    if hasattr(source, "features") or hasattr(source, "column_names"):
        return f"the {name} dataset", _dataset_rows(source, f"the {name} dataset")
    if isinstance(source, Sequence) and all(isinstance(row, Mapping) for row in source):
        return f"the {name} list", ((f"the {name} list, item {i}", dict(row)) for i, row in enumerate(source))
    kind = type(source).__name__
    raise UserError(f"{name}: a path, DataFrame, Dataset or list of dictionaries is expected, not {kind}")


def _load_folder(path: Path) -> Any:
    from datasets import load_from_disk

    try:
        return load_from_disk(str(path))
    except (FileNotFoundError, ValueError, KeyError) as error:
        raise UserError(f"{path}: not a folder of datasets' save_to_disk: name a file in it") from error


def _load_hub(name: str) -> Any:
    from datasets import load_dataset

    repository, _, split = name.partition(":")
    try:
        return load_dataset(repository, split=split or "train")
    except Exception as error:  # the library raises a dozen kinds for "not there" and "not reachable"
        reason = first_line(error, type(error).__name__)
        raise UserError(f"{name}: no such file, and no data set of the hub ({reason})") from error


def _dataset_rows(dataset: Any, where: str) -> Iterator[Row]:
    """The rows of a `datasets.Dataset`, class numbers as their names."""
    if isinstance(dataset, Mapping):  # a DatasetDict
        if len(dataset) > 1:
            raise UserError(f"{where}: holds the splits {', '.join(dataset)}: give one of them")
        dataset = next(iter(dataset.values()))
    names = {c: f.names for c, f in dataset.features.items() if hasattr(f, "names") and hasattr(f, "int2str")}
    for number, row in enumerate(dataset, start=1):
        for column, label_names in names.items():
            value = row[column]
            row[column] = label_names[value] if value is not None and 0 <= value < len(label_names) else None
        yield f"{where}: row {number}", row


def guess(names: Sequence[str], given: Columns, where: str, labelled: bool = True) -> Columns:
    """The columns of the text, of its pair and of the label.

    A given name is taken where there is such a column: the sets may name theirs differently. Else a column is
    found by the names that are usual, or as the one that is left; a pair only by a name that can be nothing
    else.

    Args:
        names: The columns that there are.
        given: Names by option.
        where: For messages.
        labelled: Whether a label is needed.

    Raises:
        UserError: No column or several could be the one.
    """
    given = Columns(*(column if column in names else None for column in options(given).values()))
    label = given.label
    used = {given.text, given.text_pair}
    if label is None and labelled:
        usual = [n for n in names if n.lower() in LABEL and n not in used]
        label = _one(usual, "the label", "--label", names, where)
    pairs = (n for n in names if n.lower() in PAIR and n not in (given.text, label))
    pair = given.text_pair or next(pairs, None)
    text = given.text
    if text is None:
        left = [n for n in names if n not in (label, pair)]
        usual = [n for n in left if n.lower() in TEXT]
        text = _one(usual or (left if len(left) == 1 else []), "the text", "--text", names, where)
    return Columns(text, pair, label)


def options(columns: Columns) -> dict[str, str | None]:
    """The columns by the options that name them."""
    return {"--text": columns.text, "--text-pair": columns.text_pair, "--label": columns.label}


def _one(found: Sequence[str], what: str, option: str, names: Sequence[str], where: str) -> str:
    if len(found) == 1:
        return found[0]
    many = f"{listed(found)} could all be {what}" if found else f"no column is plainly {what}"
    raise UserError(f"{where}: {many}: name it by {option}; there are {listed(names)}")


def text_of(row: Mapping[str, Any], column: str, place: str) -> str:
    """A row's text. Raises UserError where it is none.

    Args:
        row: Of the table.
        column: Its name.
        place: Of the row, for messages.
    """
    value = row.get(column)
    if missing(value) or (isinstance(value, str) and not value.strip()):
        raise UserError(f"{place}: {column} is empty: remove the row, or fill it")
    if not isinstance(value, str):
        raise UserError(f"{place}: {column} must be text, is {value!r}: see --text")
    if "\0" in value:
        raise UserError(f"{place}: a NUL byte in {column}: remove it")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise UserError(f"{place}: half a surrogate pair in {column} is no text") from error
    return value


def label_of(row: Mapping[str, Any], column: str, place: str) -> str:
    """A row's label as a name: 1, 1.0 and "1" are one, and so are true and "True". Raises UserError.

    Args:
        row: Of the table.
        column: Its name.
        place: Of the row, for messages.
    """
    value = row.get(column)
    value = getattr(value, "item", lambda: value)()  # numpy's own types
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if missing(value) or not str(value).strip():
        raise UserError(f"{place}: {column} is empty: every example needs a label")
    if not isinstance(value, str | int):
        shown = json.dumps(value, default=str)
        raise UserError(f"{place}: {column} must be a name or a whole number, is {shown}")
    return str(value).strip()


def missing(value: Any) -> bool:
    """Whether it is None, NaN or pandas' NA."""
    return value is None or type(value).__name__ == "NAType" or value != value
