"""What a run trains on, chooses its epoch by, and is tested on: read, drop, subset, join, corrupt. In that order."""

import logging
from dataclasses import dataclass
from functools import cache
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ..errors import UserError
from . import benchmarks, corruption
from .examples import Examples, Split, overlap_key
from .on_disk import pick, shelve
from .splits import hold_out, leave_out, subset

if TYPE_CHECKING:
    from ..config.schema import Dataset, Paths, Run, Source

logger = logging.getLogger(__name__)


class Reads(Protocol):
    """What the splits of a command depend on: a run, a generation, a few-shot classification."""

    @property
    def dataset(self) -> "Dataset": ...
    @property
    def source(self) -> "Source": ...
    @property
    def paths(self) -> "Paths": ...


@dataclass(frozen=True)
class Material:
    """Everything that a run reads. `labels` are sorted by name; `selection` is empty where nothing is kept for it.

    `left` is the fold of the training side that `source.fold` leaves out, empty where it names none.
    """

    labels: tuple[str, ...]
    train: Examples
    selection: Examples
    test: Examples
    record: dict[str, dict[str, Any]]  # the row's `data`: split → sha256, n, overlap, dropped
    left: Examples = ()
    dev: Examples = ()  # D_P' less what is held out: for losses that learn by it

    def targets(self, examples: Examples) -> np.ndarray:
        """Positions of the examples' labels among the sorted names."""
        position = {label: i for i, label in enumerate(self.labels)}
        return np.fromiter((position[e.label] for e in examples), np.int64, len(examples))


def splits_read(source: str) -> list[str]:
    """The splits that a run with this source reads, training side first."""
    sides = {"small_real": [], "mixed": ["synthetic"], "noisy": ["large_real"]}.get(source, [source])
    return [*sides, "small_real", "test"]


def load_splits(run: Reads) -> dict[str, Split]:
    """The splits of a run, checked against each other.

    Raises:
        UserError: what `benchmarks.load` raises; a class that D_P' lacks; pairs in some splits only.
    """
    data, cache = run.paths.data, run.paths.cache
    dataset = run.dataset
    small = benchmarks.load(dataset, "small_real", data, cache)
    present = small.labels
    labels = tuple(sorted(dataset.labels or present))
    absent = [label for label in labels if label not in present]
    if absent:
        raise UserError(f"{small.where}: D_P' has no example of class {absent[0]!r}: every class needs at least one")
    if len(labels) < 2:
        raise UserError(f"{small.where}: one class only ({labels[0]!r}): there is nothing to classify")
    out: dict[str, Split] = {}
    for name in splits_read(run.source.name):
        if name == "small_real":
            out[name] = small
        elif name == "file":
            if not run.source.path:
                raise UserError("source=file needs source.path=PATH, a JSONL file")
            out[name] = benchmarks.read(_existing(run.source.path), "file", labels)
        else:
            variant = run.source.variant if name == "synthetic" else None
            out[name] = benchmarks.load(dataset, name, data, cache, variant)
        if not out[name].labels <= present:  # hub splits and labels that D_P' alone defines come unchecked
            e = next(e for e in out[name].examples if e.label not in present)
            raise UserError(f"{out[name].where}: {e.id}: unknown label {e.label!r}: D_P' has {', '.join(labels)}")
    pairs = {name: split.examples[0].text_pair is not None for name, split in out.items()}
    if len(set(pairs.values())) > 1:
        with_pair, without = (next(n for n, p in pairs.items() if p is want) for want in (True, False))
        raise UserError(f"{out[with_pair].where} has text_pair and {out[without].where} has none: one task, one shape")
    return out


def _existing(path: str) -> Path:
    if not Path(path).is_file():
        raise UserError(f"source.path={path}: no such file")
    return Path(path)


def build(run: "Run") -> Material:
    """The material of a run, in the order that docs/format.md fixes: read, hash, drop, `source.n`, join, corrupt, fold."""
    splits = load_splits(run)
    small, test = splits["small_real"], splits["test"]
    labels = tuple(sorted(small.labels))
    test_keys, small_keys = ({overlap_key(e) for e in split.examples} for split in (test, small))
    record = {
        "small_real": {
            "sha256": small.sha256,
            "n": len(small.examples),
            "overlap": {"test": sum(overlap_key(e) in test_keys for e in small.examples)},
            "dropped": 0,
        },
        "test": {"sha256": test.sha256, "n": len(test.examples), "overlap": {}, "dropped": 0},
    }
    kept, held = hold_out(small, run.selection.kept_out)
    train: Examples = ()
    for name in splits_read(run.source.name)[:-2]:
        split = splits[name]
        known = [(key in test_keys) + 2 * (key in small_keys) for key in map(overlap_key, split.examples)]
        train = split.examples
        if any(known) and drops_overlap(run):
            train = pick(split.examples, [i for i, of in enumerate(known) if not of])
            first = next(e for e, of in zip(split.examples, known, strict=True) if of)
            log_dropped(split.where, len(split.examples) - len(train), len(split.examples), first.id, first.text)
        record[name] = {
            "sha256": split.sha256,
            "n": len(split.examples),
            "overlap": {"test": sum(of & 1 for of in known), "small_real": sum(of >> 1 for of in known)},
            "dropped": len(split.examples) - len(train),
        }
        train = subset(train, run.source.n, split.sha256, run.seed)
    if run.source.name == "small_real":
        train = subset(kept, run.source.n, small.sha256, run.seed)
    if run.source.name == "mixed":
        own = {e.id for e in kept}
        twice = sorted({e.id for e in train if e.id in own})
        train = shelve(chain(train, kept))
        if twice:
            raise UserError(f"source=mixed: id {twice[0]!r} is in D_Q and in D_P': ids must be unique over both")
    if not train:
        raise UserError(f"source={run.source.name}: every example equals a text of test or D_P': nothing is left to train on")
    if run.corruption.active:
        c, other = run.corruption, unrelated(run)
        record["other"] = {"sha256": other.sha256, "n": len(other.examples), "overlap": {}, "dropped": 0}
        shares = c.swapped, c.duplicated, c.unrelated
        train = corruption.corrupt(train, labels, run.seed, *shares, other_of(run), other.examples)
    left: Examples = ()
    if run.source.fold is not None:
        train, left = leave_out(train, run.source.folds, run.source.fold)
    selection = small.examples if run.selection.split == "dprime" else held
    return Material(labels, train, selection, test.examples, record, left, kept)


@cache  # a run's data are built more than once in a process
def log_dropped(where: str, dropped: int, n: int, first_id: str, first_text: str) -> None:
    logger.info(
        "%s: %d of %d examples are not trained on: they equal one of test or D_P' but for case, white space and "
        "punctuation (dataset.drop_overlap). First: %s, %.60r",
        where, dropped, n, first_id, first_text,
    )  # fmt: skip


def drops_overlap(run: "Run") -> bool:
    """Whether examples that equal one of test or D_P' leave the training side: as `dataset.drop_overlap` says, or
    where it is null all but those of an official large_real."""
    wish = run.dataset.drop_overlap
    return run.source.name not in ("large_real", "noisy") if wish is None else wish


def other_of(run: "Run") -> str:
    """The benchmark whose synthetic texts are the unrelated ones."""
    return run.corruption.other or ("tweet_irony" if run.dataset.name == "financial" else "financial")


def unrelated(run: "Run") -> Split:
    """The committed synthetic set of another benchmark. Raises UserError where there is none of that name."""
    path = benchmarks.SHIPPED / other_of(run) / "synthetic.jsonl"
    if not path.is_file():
        there = ", ".join(sorted(p.parent.name for p in benchmarks.SHIPPED.glob("*/synthetic.jsonl")))
        raise UserError(f"corruption.other={run.corruption.other}: no committed set of that name; there are {there}")
    return benchmarks.read(path, "synthetic", None)
