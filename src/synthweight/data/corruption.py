"""Corruption on purpose: swapped labels, duplicates, unrelated texts.

The rule is docs/format.md's, to the letter.
"""

import dataclasses
from itertools import chain

import numpy as np

from ..errors import UserError
from .examples import Example, Examples
from .on_disk import spill_to_disk


def corrupt(
    examples: Examples,
    labels: tuple[str, ...],
    seed: int,
    swapped: float,
    duplicated: float,
    unrelated: float,
    other_name: str,
    other: Examples,
) -> Examples:
    """The examples with shares of them corrupted, each with its `kind` and `origin`.

    One permutation by `numpy.random.default_rng([seed, 1])`: its first round(swapped·N) examples get another
    label, uniform over the others; the next round(duplicated·N) are appended once more, both twins of kind
    `duplicated`. Then round(unrelated·N) texts of `other` are appended with a uniform label; pairs get two of
    its texts.

    Args:
        examples: N of them.
        labels: the classes.
        seed: of the draws.
        swapped: share that gets another label.
        duplicated: share that is appended once more.
        unrelated: how many unrelated texts are appended, as a share of N.
        other_name: of the benchmark that the unrelated texts are from, for their ids.
        other: its examples.

    Raises:
        UserError: swapped and duplicated together are more than there is.
    """
    n = len(examples)
    counts = [round(share * n) for share in (swapped, duplicated, unrelated)]
    if counts[0] + counts[1] > n:
        raise UserError(
            f"corruption: swapped={swapped:g} and duplicated={duplicated:g} together exceed the data"
        )
    rng = np.random.default_rng([seed, 1])
    order = rng.permutation(n)
    changed: dict[int, Example] = {}  # of many examples the others stay where they are
    added: list[Example] = []
    for i in order[: counts[0]].tolist():
        e = examples[i]
        others = [label for label in labels if label != e.label]
        changed[i] = dataclasses.replace(
            e, label=others[rng.integers(len(others))], kind="swapped", origin=e.id
        )
    for i in order[counts[0] : counts[0] + counts[1]].tolist():
        changed[i] = twin = dataclasses.replace(examples[i], kind="duplicated")
        added.append(dataclasses.replace(twin, id=f"{twin.id}+dup1", origin=twin.id))
    pairs = examples[0].text_pair is not None
    for k in range(counts[2]):
        first, second = (other[j] for j in rng.integers(len(other), size=2))
        added.append(
            Example(
                id=f"{other_name}/{first.id}+other{k}",
                text=first.text,
                text_pair=second.text if pairs else None,
                label=labels[rng.integers(len(labels))],
                kind="unrelated",
                origin=f"{other_name}/{first.id}",
            )
        )
    return spill_to_disk(chain((changed.get(i, e) for i, e in enumerate(examples)), added))
