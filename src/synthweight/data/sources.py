"""What a run trains on, chooses its epoch by, and is tested on: read, drop, subset, join, corrupt.

In that order.
"""

import dataclasses
import logging
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ..errors import UserError
from . import benchmarks, corruption
from .examples import Example, Examples, LoadedSplit, data_hash, overlap_key, place_of
from .on_disk import select, spill_to_disk
from .splits import hold_out, hold_out_fold, nested_subset

if TYPE_CHECKING:
    from ..config.schema import Dataset, Paths, Run, Source

logger = logging.getLogger(__name__)


class HasSources(Protocol):
    """What the splits of a command depend on: a run, a generation, a few-shot classification."""

    @property
    def dataset(self) -> "Dataset": ...
    @property
    def source(self) -> "Source": ...
    @property
    def paths(self) -> "Paths": ...


@dataclass(frozen=True)
class RunData:
    """Everything that a run reads.

    `labels` are sorted by name; `selection` is empty where nothing is kept for it.

    `held_out_fold` is the fold of the training side that `source.fold` leaves out, empty where it names none.
    """

    labels: tuple[str, ...]
    train: Examples
    selection: Examples
    test: Examples
    record: dict[str, dict[str, Any]]  # the row's `data`: split → sha256, n, overlap, dropped
    held_out_fold: Examples = ()
    dev: Examples = ()  # D_P' less what is held out: for losses that learn by it

    def targets(self, examples: Examples) -> np.ndarray:
        """Positions of the examples' labels among the sorted names."""
        position = {label: i for i, label in enumerate(self.labels)}
        return np.fromiter((position[e.label] for e in examples), np.int64, len(examples))


def splits_read(source: str) -> list[str]:
    """The splits that a run with this source reads, training side first."""
    sides = {"small_real": [], "mixed": ["synthetic"], "noisy": ["large_real"]}.get(source, [source])
    return [*sides, "small_real", "test"]


def load_splits(run: HasSources) -> dict[str, LoadedSplit]:
    """The splits of a run by name, checked against each other.

    Args:
        run: What says which dataset, which source and which folders.

    Raises:
        UserError: What `benchmarks.load` raises; a class that D_P' lacks; a label that D_P' does not know;
            labels that differ in case, white space or Unicode form only; pairs in some splits only.
    """
    dataset, data, cache = run.dataset, run.paths.data, run.paths.cache
    out: dict[str, LoadedSplit] = {}
    for name in splits_read(run.source.name):
        if name == "file":
            if not run.source.path:
                raise UserError(
                    "source=file needs source.path=PATH: JSON lines, CSV or Parquet with text and label"
                )
            out[name] = benchmarks.read_split(_existing(run.source.path), "file")
        else:
            variant = run.source.variant if name == "synthetic" else None
            out[name] = benchmarks.load_split(dataset, name, data, cache, variant)
    small = out["small_real"]
    labels = tuple(
        sorted(dataset.labels or (_spellings(small).values() if dataset.unite_labels else small.labels))
    )
    for name in sorted(out, key="small_real".__ne__):  # D_P' first: it says which labels there are
        out[name] = checked_labels(out[name], labels, dataset.unite_labels)
    absent = [label for label in labels if label not in out["small_real"].labels]
    if absent:
        raise UserError(
            f"{small.where}: D_P' has no example of class {absent[0]!r}: every class needs at least one"
        )
    if len(labels) < 2:
        raise UserError(f"{small.where}: one class only ({labels[0]!r}): there is nothing to classify")
    pairs = {name: split.examples[0].text_pair is not None for name, split in out.items()}
    if len(set(pairs.values())) > 1:
        with_pair, without = (next(n for n, p in pairs.items() if p is want) for want in (True, False))
        raise UserError(
            f"{out[with_pair].where} has text_pair and {out[without].where} has none: one task, one shape"
        )
    return out


def pinned_hashes(run: HasSources) -> dict[str, str] | None:
    """The pinned data hash of each split; None where all are on this machine, or one of them is not pinned."""
    dataset, data, cache = run.dataset, run.paths.data, run.paths.cache
    stems = {
        name: f"synthetic_{run.source.variant}" if name == "synthetic" and run.source.variant else name
        for name in splits_read(run.source.name)
    }
    if all(benchmarks.find_split(dataset, stem, data, cache) for stem in stems.values()):
        return None
    pins = {name: dataset.sha256.get(stem) for name, stem in stems.items()}
    return {name: pin for name, pin in pins.items() if pin} if all(pins.values()) else None


def label_key(label: str) -> str:
    """What two labels share that differ in case, white space or Unicode form only."""
    return " ".join(unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", label).casefold()).split())


def _spellings(split: LoadedSplit) -> dict[str, str]:
    """The most frequent spelling of each label by its key; of two that are as frequent the first by name."""
    counts = Counter(e.label for e in split.examples)
    return {
        label_key(label): label
        for label, _ in sorted(counts.items(), key=lambda item: (item[1], item[0][::-1]))
    }


def checked_labels(split: LoadedSplit, labels: Sequence[str], unite: bool) -> LoadedSplit:
    """A split whose every label is one of `labels`.

    Args:
        split: As it was read.
        labels: The names that there are.
        unite: Spell a label that differs from one of them in case, white space or Unicode form only as that
            one.

    Raises:
        UserError: Naming the place of the first label that is none of them, or, unless `unite`, of two that
            differ only so.
    """
    named = {label_key(label): label for label in labels}
    for label in labels:
        if (other := named[label_key(label)]) != label:
            counts = Counter(e.label for e in split.examples)
            raise _same_label(split, *sorted((label, other), key=counts.__getitem__))
    unknown = sorted(split.labels - set(labels))
    if not unknown:
        return split
    if unite and all(label_key(label) in named for label in unknown):
        spelt = {label: named[label_key(label)] for label in split.labels}
        examples = spill_to_disk(dataclasses.replace(e, label=spelt[e.label]) for e in split.examples)
        return LoadedSplit(split.name, examples, data_hash(examples), split.where)
    for label in unknown:
        if label_key(label) in named and not unite:
            raise _same_label(split, label, named[label_key(label)])
    first = next(label for label in unknown if label_key(label) not in named)
    raise UserError(f"{_place_of_label(split, first)}: unknown label {first!r}: D_P' has {', '.join(labels)}")


def _same_label(split: LoadedSplit, label: str, other: str) -> UserError:
    look_alike = unicodedata.normalize("NFC", label) == unicodedata.normalize("NFC", other)
    shown = f"{label!a} and {other!a}" if look_alike else f"{label!r} and {other!r}"
    return UserError(
        f"{_place_of_label(split, label)}: labels {shown} differ in case, white space or Unicode form only: "
        "correct one, or make them one class by dataset.unite_labels=true"
    )


def _place_of_label(split: LoadedSplit, label: str) -> str:
    """Where the first example with this label lies."""
    number = next((i for i, e in enumerate(split.examples) if e.label == label), None)
    return split.where if number is None else _place(split, number)


def _place(split: LoadedSplit, number: int) -> str:
    """Where an example of a split lies, number from 0: `file:line`, or of a hub's data its id."""
    path = Path(split.where)
    return place_of(path, number) if path.is_file() else f"{split.where}: {split.examples[number].id}"


def _existing(path: str) -> Path:
    if not Path(path).is_file():
        raise UserError(f"source.path={path}: no such file")
    return Path(path)


def build_run_data(run: "Run") -> RunData:
    """The data of a run, in the order that docs/format.md fixes: read, hash, drop, subset, join, corrupt, fold.

    What a user should know of them is logged once a process: what was dropped, classes that are absent, test
    examples that D_P' has too or that bear several labels.

    Raises:
        UserError: What `load_splits` raises; nothing is left to train on; too few examples for a subset, fold
            or hold-out.
    """
    splits = load_splits(run)
    small, test = splits["small_real"], splits["test"]
    labels = tuple(sorted(small.labels))
    test_keys, small_keys = ({overlap_key(e) for e in split.examples} for split in (test, small))
    in_test = [overlap_key(e) in test_keys for e in small.examples]
    conflicting = conflicting_labels(test.examples)
    record: dict[str, dict[str, Any]] = {
        "small_real": {"sha256": small.sha256, "n": len(in_test), "overlap": {"test": sum(in_test)}, "dropped": 0},
        "test": {
            "sha256": test.sha256, "n": len(test.examples), "overlap": {}, "dropped": 0, "conflicting": len(conflicting),
        },
    }  # fmt: skip
    if any(in_test):
        first = in_test.index(True)
        log_overlap(small.where, sum(in_test), len(in_test), _place(small, first), small.examples[first].text)
    if conflicting:
        log_conflicting(test.where, len(conflicting), conflicting[0].text)
    if run.source.real_n is not None:
        small = smaller(small, run.source.real_n, run.seed)
    kept, held_out = hold_out(small, run.selection.kept_out)
    train: Examples = ()
    for name in splits_read(run.source.name)[:-2]:
        split = splits[name]
        known = [(key in test_keys) + 2 * (key in small_keys) for key in map(overlap_key, split.examples)]
        train = split.examples
        if any(known) and drops_overlap(run):
            train = select(split.examples, [i for i, where in enumerate(known) if not where])
            first = next(i for i, where in enumerate(known) if where)
            dropped = len(split.examples) - len(train)
            log_dropped(split.where, dropped, len(known), _place(split, first), split.examples[first].text)
        record[name] = {
            "sha256": split.sha256,
            "n": len(split.examples),
            "overlap": {
                "test": sum(where & 1 for where in known),
                "small_real": sum(where >> 1 for where in known),
            },
            "dropped": len(split.examples) - len(train),
        }
        train = nested_subset(train, run.source.n, split.sha256, run.seed)
    if run.source.name == "small_real":
        train = nested_subset(kept, run.source.n, small.sha256, run.seed)
    if run.source.name == "mixed":
        train = join_mixed(train, kept)
    if not train:
        raise UserError(
            f"source={run.source.name}: every example equals a text of test or D_P': nothing is left to train on"
        )
    if run.corruption.active:
        c, other = run.corruption, load_unrelated(run)
        record["other"] = {"sha256": other.sha256, "n": len(other.examples), "overlap": {}, "dropped": 0}
        shares = c.swapped, c.duplicated, c.unrelated
        train = corruption.corrupt(train, labels, run.seed, *shares, unrelated_benchmark(run), other.examples)
    held_out_fold: Examples = ()
    if run.source.fold is not None:
        train, held_out_fold = hold_out_fold(train, run.source.folds, run.source.fold)
    side = splits_read(run.source.name)[0]
    counts = Counter(e.label for e in train)
    record[side]["absent"] = [label for label in labels if label not in counts]
    if record[side]["absent"]:
        log_absent(splits[side].where, tuple(record[side]["absent"]), tuple(sorted(counts.items())))
    selection = small.examples if run.selection.split == "dprime" else held_out
    return RunData(labels, train, selection, test.examples, record, held_out_fold, kept)


def smaller(small: LoadedSplit, n: int, seed: int) -> LoadedSplit:
    """D_P' as if only n of its examples were there, drawn as `source.n` draws. Raises UserError where a class is lost."""
    part = nested_subset(small.examples, n, small.sha256, seed, "source.real_n")
    if lost := sorted(small.labels - {e.label for e in part}):
        raise UserError(f"source.real_n={n}: none of {n} examples of D_P' is of class {lost[0]!r}: take more")
    return LoadedSplit(small.name, part, small.sha256, small.where)


def join_mixed(synthetic: Examples, real: Examples) -> Examples:
    """D_Q and then D_P' as one training set; an id of D_P' that D_Q has too is written `small_real/<id>`.

    Args:
        synthetic: the LLM-written examples.
        real: D_P' without what is held out.

    Raises:
        UserError: D_Q has that id too.
    """
    own = {e.id for e in real}
    shared = {e.id for e in synthetic if e.id in own}
    renamed = {f"small_real/{id_}" for id_ in shared}
    if twice := sorted(renamed & own | {e.id for e in synthetic if e.id in renamed}):
        raise UserError(
            f"source=mixed: id {twice[0]!r} is in D_Q or D_P' already: name the examples of one of them otherwise"
        )
    named = (dataclasses.replace(e, id=f"small_real/{e.id}") if e.id in shared else e for e in real)
    return spill_to_disk(chain(synthetic, named))


def conflicting_labels(examples: Examples) -> list[Example]:
    """One example of each text that comes with more than one label, in the examples' order."""
    first: dict[tuple[str, str], Example] = {}
    found: dict[tuple[str, str], Example] = {}
    for e in examples:
        key = overlap_key(e)
        if first.setdefault(key, e).label != e.label:
            found[key] = e
    return list(found.values())


# A run's data are built several times in a process (for its id, for its checkers, for itself): each message
# comes once.


@cache
def log_dropped(where: str, dropped: int, n: int, first: str, first_text: str) -> None:
    """Logs how many training examples are left out since they are in test or D_P'.

    Args:
        where: the split.
        dropped: how many.
        n: of how many.
        first: id of the first.
        first_text: its text.
    """
    logger.info(
        "%s: %d of %d examples are not trained on: they equal one of test or D_P' but for case, white space and "
        "punctuation (dataset.drop_overlap). First: %s, %.60r",
        where, dropped, n, first, first_text,
    )  # fmt: skip


@cache
def log_overlap(where: str, shared: int, n: int, first: str, first_text: str) -> None:
    """Warns that examples of D_P' are in test.

    Args:
        where: the split.
        shared: how many.
        n: of how many.
        first: id of the first.
        first_text: its text.
    """
    logger.warning(
        "%s: %d of %d examples of D_P' are in test too, but for case, white space and punctuation: results on test flatter. "
        "First: %s, %.60r",
        where, shared, n, first, first_text,
    )  # fmt: skip


@cache
def log_conflicting(where: str, texts: int, first_text: str) -> None:
    """Warns that texts of test have more than one label.

    Args:
        where: the split.
        texts: how many.
        first_text: the first.
    """
    logger.warning(
        "%s: texts of test that come with more than one label: %d. First: %.60r", where, texts, first_text
    )


@cache
def log_absent(where: str, absent: tuple[str, ...], counts: tuple[tuple[str, int], ...]) -> None:
    """Warns that classes have no example to train on.

    Args:
        where: the split.
        absent: the classes.
        counts: by class, how many examples there are.
    """
    logger.warning(
        "%s: no example of class %s to train on (%s): a classifier can hardly predict it",
        where, ", ".join(map(repr, absent)), ", ".join(f"{label} {n}" for label, n in counts),
    )  # fmt: skip


def drops_overlap(run: "Run") -> bool:
    """Whether training examples that equal one of test or D_P' are dropped.

    As `dataset.drop_overlap` says; where it is null, all but those of an official large_real.
    """
    wish = run.dataset.drop_overlap
    return run.source.name not in ("large_real", "noisy") if wish is None else wish


def unrelated_benchmark(run: "Run") -> str:
    """The benchmark whose synthetic texts are the unrelated ones."""
    return run.corruption.other or ("tweet_irony" if run.dataset.name == "financial" else "financial")


def load_unrelated(run: "Run") -> LoadedSplit:
    """The committed synthetic set of another benchmark. Raises UserError where there is none of that name."""
    path = benchmarks.DATA / unrelated_benchmark(run) / "synthetic.jsonl"
    if not path.is_file():
        available = ", ".join(sorted(p.parent.name for p in benchmarks.DATA.glob("*/synthetic.jsonl")))
        raise UserError(
            f"corruption.other={run.corruption.other}: no committed set of that name; there are {available}"
        )
    return benchmarks.read_split(path, "synthetic")
