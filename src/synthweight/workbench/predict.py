"""Labels for new texts by a folder that `fit` made: from lists, or from files of any size."""

import csv
import gzip
import io
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import chain, islice, repeat
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch

from ..atomic_io import atomic_path
from ..data.readers import file_format, iter_rows
from ..data.tokenization import TokenizedTexts, encode, load_tokenizer
from ..errors import UserError, first_line
from ..models import classifier
from ..training.predict import log_probs
from .read import Columns, guess, listed, text_of

CHUNK = 4096  # texts that are held at once: enough to batch them by length
LABEL, PROBABILITY = "predicted_label", "probability"
ANY = "write .jsonl, which takes any row"
Texts = Sequence[str] | Sequence[tuple[str, str]]
Row = dict[str, Any]  # values by column


class Predictor:
    """A fitted classifier in memory; no network, no training code."""

    def __init__(self, folder: Path) -> None:
        """Loads the folder's model and tokenizer. Raises UserError where it is none of `fit`'s."""
        settings = read_settings(folder)
        self.labels: tuple[str, ...] = tuple(settings["labels"])
        self.pairs: bool = settings["pairs"]
        self.max_length: int = settings["max_length"]
        self.columns = Columns(**settings["columns"])
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.tokenizer = load_tokenizer(folder)
        padded = encode(self.tokenizer, ["."], ["."] if self.pairs else None, self.max_length)
        self.network = classifier.load(folder, self.labels, padded).to(self.device).eval()

    def log_probs(self, texts: Texts) -> np.ndarray:
        """log p of all classes in fp32, [n, classes], in the texts' order; computed without padding.

        Raises:
            UserError: Single texts for a model of pairs, or pairs for one of single texts.
        """
        if not texts:
            return np.zeros((0, len(self.labels)), dtype=np.float32)
        if isinstance(texts[0], str) == self.pairs:
            raise UserError(f"this model takes {'pairs of texts' if self.pairs else 'single texts'}")
        chunks = [self._tokens(texts[i : i + CHUNK]) for i in range(0, len(texts), CHUNK)]
        return np.concatenate([log_probs(self.network, tokens, len(self.labels)) for tokens in chunks])

    def _tokens(self, texts: Texts) -> TokenizedTexts:
        first: Any = [t if isinstance(t, str) else t[0] for t in texts]
        second: Any = [t[1] for t in texts] if self.pairs else None
        return encode(self.tokenizer, first, second, self.max_length)


def read_settings(folder: Path) -> dict[str, Any]:
    """What `fit` wrote about a model. Raises UserError where the folder is none of its own."""
    try:
        return json.loads((folder / "fit.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{folder}: not a folder that `synthweight fit` made (no fit.json)") from error


def predict_file(
    predictor: Predictor, source: Path | None, target: Path | None, columns: Columns, proba: bool = False
) -> Iterator[int]:
    """Labels the rows of a file, a chunk at a time; yields how many are done.

    Args:
        predictor: The model.
        source: CSV, TSV, JSONL, JSON or Parquet, each also `.gz`; None: standard input, one text per line.
        target: The same kinds; None: standard output, JSONL. Appears when it is complete.
        columns: Names of the columns with the texts; None is what `fit` used, or guessed.
        proba: Write the probability of every class too.

    Raises:
        UserError: What the readers raise; a column that would be written twice.
    """
    where = "standard input" if source is None else str(source)
    rows = _lines() if source is None else iter_rows(source)
    chosen: Columns | None = None
    done = 0
    with ExitStack() as stack:
        write = json_lines(sys.stdout)
        if target is not None:
            write = stack.enter_context(open_writer(stack.enter_context(atomic_path(target)), target))
        while part := list(islice(rows, CHUNK)):
            chosen = chosen or _text_columns(list(part[0][1]), columns, predictor, where)
            log_probs = predictor.log_probs([_texts(row, chosen, place) for place, row in part])
            rows_out = zip(part, log_probs, strict=True)
            write([_labelled(row, p, predictor.labels, proba) for (_, row), p in rows_out])
            done += len(part)
            yield done
        if not done:
            raise UserError(f"{where}: holds no example")


def _lines() -> Iterator[tuple[str, dict[str, Any]]]:
    for number, line in enumerate(sys.stdin, start=1):
        if line.strip():
            yield f"standard input:{number}", {"text": line.rstrip("\n")}


def _text_columns(names: list[str], given: Columns, predictor: Predictor, where: str) -> Columns:
    twice = [n for n in names if n in (LABEL, PROBABILITY)]
    if twice:
        raise UserError(f"{where}: has a column {twice[0]!r} already: rename it")
    known = predictor.columns
    text = given.text or (known.text if known.text in names else None)
    pair = given.text_pair or (known.text_pair if known.text_pair in names else None)
    for option, column in (("--text", given.text), ("--text-pair", given.text_pair)):
        if column is not None and column not in names:
            raise UserError(f"{where}: {option} {column}: no such column; there are {listed(names)}")
    chosen = guess(names, Columns(text, pair, known.label), where, labelled=False)
    if predictor.pairs and chosen.text_pair is None:
        raise UserError(f"{where}: this model takes pairs of texts: name the second column by --text-pair")
    return chosen if predictor.pairs else Columns(chosen.text, None, None)


def _texts(row: dict[str, Any], columns: Columns, place: str) -> Any:
    assert columns.text is not None
    text = text_of(row, columns.text, place)
    return text if columns.text_pair is None else (text, text_of(row, columns.text_pair, place))


def _labelled(row: Row, log_probs: np.ndarray, labels: Sequence[str], proba: bool) -> Row:
    p = np.exp(log_probs.astype(np.float64))
    best = int(p.argmax())
    out = row | {LABEL: labels[best], PROBABILITY: round(float(p[best]), 6)}
    if not proba:
        return out
    return out | {f"p_{label}": round(float(q), 6) for label, q in zip(labels, p, strict=True)}


WriteRows = Callable[[Sequence[Row]], None]


def json_lines(file: IO[str]) -> WriteRows:
    """Writes rows to an open file as JSONL."""
    return lambda rows: file.writelines(_json(row) + "\n" for row in rows)


def _json(row: Row) -> str:
    return json.dumps(row, ensure_ascii=False, default=str)


@contextmanager
def open_writer(path: Path, target: Path) -> Iterator[WriteRows]:
    """Writes rows to `path` in the format that the name of `target` says; complete when the context ends."""
    kind = file_format(target)
    with ExitStack() as stack:
        raw: Any = stack.enter_context(path.open("wb"))
        if target.suffix == ".gz":
            raw = stack.enter_context(gzip.GzipFile(fileobj=raw, mode="wb"))
        if kind == "parquet":
            yield _parquet_writer(stack, raw)
            return
        file = stack.enter_context(io.TextIOWrapper(raw, encoding="utf-8", newline=""))
        if kind == "jsonl":
            yield json_lines(file)
        elif kind == "json":
            separators = chain("[", repeat(","))
            yield lambda rows: file.writelines(
                next(separators) + "\n" + json.dumps(row, ensure_ascii=False, default=str) for row in rows
            )
            file.write("\n]\n")
        else:
            yield _separated_writer(file, "," if kind == "csv" else "\t")


def _separated_writer(file: IO[str], delimiter: str) -> WriteRows:
    writers: list[Any] = []  # one, made when the columns are known

    def write(rows: Sequence[dict[str, Any]]) -> None:
        if not writers:
            writers.append(csv.DictWriter(file, list(rows[0]), delimiter=delimiter, extrasaction="ignore"))
            writers[0].writeheader()
        refuse_new_columns(rows, writers[0].fieldnames)  # which DictWriter would look for once more
        writers[0].writerows(rows)

    return write


def refuse_new_columns(rows: Sequence[Row], names: Sequence[str]) -> None:
    """Raises UserError where a row has a column that the first one had not."""
    known = set(names)
    for row in rows:
        if new := row.keys() - known:
            raise UserError(f"--out: a later row has the column {min(new)!r}, which the first has not: {ANY}")


def _parquet_writer(stack: ExitStack, file: IO[bytes]) -> WriteRows:
    import pyarrow as pa
    import pyarrow.parquet as pq

    writers: list[Any] = []

    def write(rows: Sequence[dict[str, Any]]) -> None:
        refuse_new_columns(rows, writers[0].schema.names if writers else list(rows[0]))
        try:
            part = pa.Table.from_pylist(list(rows), schema=writers[0].schema if writers else None)
        except pa.ArrowException as error:
            several = "a column has values of several types, or none in its first rows"
            raise UserError(f"--out: {several} ({first_line(error)}): {ANY}") from error
        if not writers:
            writers.append(stack.enter_context(pq.ParquetWriter(file, part.schema)))
        writers[0].write_table(part)

    return write
