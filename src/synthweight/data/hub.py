"""The paper's three benchmarks from the Hugging Face hub, with the split rules of docs/paper.md.

Each rule turns the hub's splits into ours; texts are stripped, labels become the names that the hub gives
them.
"""

import hashlib
from collections.abc import Callable, Iterator
from typing import Any

from ..errors import UserError, first_line
from .examples import Example

Rows = list[tuple[str, str | None, str]]  # text, text_pair, label


def load_hub_rows(
    dataset: str, split: str, path: str, name: str | None, data_dir: str | None, revision: str | None
) -> Rows:
    """One of our splits of one benchmark.

    Args:
        dataset: name of the benchmark.
        split: small_real, large_real or test.
        path: the repository, or a local folder of the same shape.
        name: of its configuration.
        data_dir: the folder in the repository.
        revision: branch, tag or commit.

    Raises:
        UserError: the hub cannot be reached, or has no such data; there is no rule for this benchmark.
    """
    rule = SPLIT_RULES.get(dataset)
    if rule is None:
        raise UserError(
            f"dataset={dataset}: {split} is in no local folder, and no rule makes our splits of those on the hub: write "
            f"small_real.jsonl and test.jsonl into <paths.data>/{dataset}/, or a rule into SPLIT_RULES of data/hub.py"
        )
    from datasets import disable_progress_bars, load_dataset  # takes a second, which runs on local data save

    disable_progress_bars()

    def hub_split(which: str) -> Any:
        try:
            return load_dataset(path, name, data_dir=data_dir, split=which, revision=revision)
        except Exception as error:  # the library raises a dozen kinds for "not there" and "not reachable"
            reason = first_line(error, type(error).__name__)
            raise UserError(
                f"dataset={dataset}: {split} is in no local folder and {path} cannot be loaded from the hub ({reason}); "
                f"offline, put small_real.jsonl, large_real.jsonl and test.jsonl into <paths.data>/{dataset}/"
            ) from error

    return rule(split, hub_split)


def sort_by_hash(rows: Rows) -> Rows:
    """The rows by the SHA-256 of their UTF-8 text, ties by label: an order that nobody chose.

    Args:
        rows: in any order.
    """
    return sorted(rows, key=lambda row: (hashlib.sha256(row[0].encode()).hexdigest(), row[2]))


def _rows(table: Any, text: str, pair: str | None = None) -> Rows:
    names = table.features["label"].names
    pairs = table[pair] if pair else [None] * len(table)
    strip = [
        (t.strip(), p and p.strip(), names[label])
        for t, p, label in zip(table[text], pairs, table["label"], strict=True)
    ]
    return strip


def _financial(split: str, hub_split: Callable[[str], Any]) -> Rows:
    """One hub split of 4,846: in hash order 1,212 are test, the next 242 small real, the rest large real."""
    ordered = sort_by_hash(_rows(hub_split("train"), "sentence"))
    bounds = {"test": (0, 1212), "small_real": (1212, 1454), "large_real": (1454, None)}
    return ordered[slice(*bounds[split])]


def _tweet_irony(split: str, hub_split: Callable[[str], Any]) -> Rows:
    """Official train and test; small real = the first 300 of the official validation set in hash order."""
    if split == "small_real":
        return sort_by_hash(_rows(hub_split("validation"), "text"))[:300]
    return _rows(hub_split({"large_real": "train", "test": "test"}[split]), "text")


def _mrpc(split: str, hub_split: Callable[[str], Any]) -> Rows:
    """Official train, test (1,725, not the 408 of dev) and, as small real, dev."""
    which = {"small_real": "validation", "large_real": "train", "test": "test"}[split]
    return _rows(hub_split(which), "sentence1", "sentence2")


SPLIT_RULES: dict[str, Callable[[str, Callable[[str], Any]], Rows]] = {
    "financial": _financial,
    "tweet_irony": _tweet_irony,
    "mrpc": _mrpc,
}


def iter_hub_examples(split: str, rows: Rows) -> Iterator[Example]:
    """The rows as examples, whose ids are the split's name and the position.

    Args:
        split: name of the split.
        rows: in the split's order.
    """
    return (Example(f"{split}:{i}", text, pair, label) for i, (text, pair, label) in enumerate(rows))
