"""What an LLM is shown: examples of D_P', drawn by seed, never one whose text test has too."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..data import sources
from ..data.examples import Example, LoadedSplit, overlap_key
from ..errors import UserError

if TYPE_CHECKING:
    from ..config.llm_schema import Generate, Prompt

WRITING, CLASSIFYING = 4, 5  # streams of their own, beside those of data/


@dataclass(frozen=True)
class Pool:
    """D_P' by label, less what test has too (of a pair, either half). `labels` are sorted by name."""

    small: LoadedSplit
    test: LoadedSplit
    by_label: dict[str, tuple[Example, ...]]
    hidden: int  # examples of D_P' that are never shown, because test has a text of theirs
    overlap: int  # of these, those that test has whole

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(self.by_label)

    @property
    def pairs(self) -> bool:
        return self.small.examples[0].text_pair is not None

    def shares(self) -> dict[str, float]:
        """The label distribution of D_P', all of it."""
        n = len(self.small.examples)
        return {label: sum(e.label == label for e in self.small.examples) / n for label in self.labels}

    def of_label(self, label: str, k: int, entropy: list[int]) -> list[Example]:
        """k different examples of a label, drawn by this entropy."""
        examples = self.by_label[label]
        return [examples[i] for i in np.random.default_rng(entropy).choice(len(examples), size=k, replace=False)]

    def of_each_label(self, k: int, seed: int) -> list[Example]:
        """k examples of every label, shuffled: one draw a seed."""
        chosen = [e for i, label in enumerate(self.labels) for e in self.of_label(label, k, [seed, CLASSIFYING, i])]
        return [chosen[i] for i in np.random.default_rng([seed, CLASSIFYING]).permutation(len(chosen))]


def pool(settings: "Generate | Prompt") -> Pool:
    """Raises UserError for bad data, and where `shots` is above the smallest class."""
    splits = sources.load_splits(settings)
    small, test = splits["small_real"], splits["test"]
    seen = {half for e in test.examples for half in overlap_key(e) if half}
    clean = [e for e in small.examples if not seen & set(overlap_key(e))]
    labels = sorted({e.label for e in small.examples})
    by_label = {label: tuple(e for e in clean if e.label == label) for label in labels}
    smallest = min(by_label, key=lambda label: len(by_label[label]))
    if settings.shots > len(by_label[smallest]):
        raise UserError(
            f"shots={settings.shots}: D_P' has {len(by_label[smallest])} examples of its smallest class {smallest!r} "
            "that test does not have too"
        )
    whole = {overlap_key(e) for e in test.examples}
    both = sum(overlap_key(e) in whole for e in small.examples)
    return Pool(small, test, by_label, len(small.examples) - len(clean), both)
