"""Which examples an LLM is shown: of D_P', drawn by seed, never one whose text test has too."""

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

import numpy as np

from ..data import sources
from ..data.examples import Example, LoadedSplit, overlap_key
from ..errors import UserError

if TYPE_CHECKING:
    from ..config.llm_schema import Generate, Prompt


class Stream(IntEnum):
    """Streams of random numbers, apart from those of data/."""

    WRITING = 4
    CLASSIFYING = 5
    TOPICS = 6


@dataclass(frozen=True)
class ExamplePool:
    """D_P' by label, without the examples that test has too (of a pair, either text).

    Labels are sorted by name.
    """

    small: LoadedSplit
    test: LoadedSplit
    by_label: dict[str, tuple[Example, ...]]
    excluded: int  # examples of D_P' that are never shown, because test has a text of theirs
    overlap: int  # of these, those that test has whole

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of the labels."""
        return tuple(self.by_label)

    @property
    def pairs(self) -> bool:
        """Whether an example has two texts."""
        return self.small.examples[0].text_pair is not None

    def shares(self) -> dict[str, float]:
        """The share of each label in D_P', all of it."""
        n = len(self.small.examples)
        return {label: sum(e.label == label for e in self.small.examples) / n for label in self.labels}

    def draw(self, label: str, k: int, entropy: list[int]) -> list[Example]:
        """k different examples of one label, drawn by this entropy."""
        examples = self.by_label[label]
        return [
            examples[i] for i in np.random.default_rng(entropy).choice(len(examples), size=k, replace=False)
        ]

    def draw_of_each(self, k: int, seed: int) -> list[Example]:
        """k examples of every label, shuffled: one draw for a seed."""
        stream = Stream.CLASSIFYING
        chosen = [e for i, label in enumerate(self.labels) for e in self.draw(label, k, [seed, stream, i])]
        return [chosen[i] for i in np.random.default_rng([seed, stream]).permutation(len(chosen))]


def load_pool(settings: "Generate | Prompt") -> ExamplePool:
    """The examples that may be shown.

    Args:
        settings: Which dataset, and how many examples of a label are shown at once.

    Raises:
        UserError: What `load_splits` raises; `shots` is above the size of the smallest class.
    """
    splits = sources.load_splits(settings)
    small, test = splits["small_real"], splits["test"]
    in_test = {text for e in test.examples for text in overlap_key(e) if text}
    shown = [e for e in small.examples if not in_test & set(overlap_key(e))]
    labels = sorted({e.label for e in small.examples})
    by_label = {label: tuple(e for e in shown if e.label == label) for label in labels}
    smallest = min(by_label, key=lambda label: len(by_label[label]))
    if settings.shots > len(by_label[smallest]):
        raise UserError(
            f"shots={settings.shots}: D_P' has {len(by_label[smallest])} examples of its smallest class {smallest!r} "
            "that test does not have too"
        )
    whole = {overlap_key(e) for e in test.examples}
    overlap = sum(overlap_key(e) in whole for e in small.examples)
    return ExamplePool(small, test, by_label, len(small.examples) - len(shown), overlap)
