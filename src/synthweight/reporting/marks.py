"""Which lines of a table differ by more than chance: the best, marks, and the differences to CE."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy import ndarray

from .rows import Label
from .significance import LEVEL, Difference, difference, holm, pseudo_values

FROM_CE, FROM_BASELINE, LIKE_BEST = "*", "†", "≈"
BASELINES = ("ce", "focal", "hu", "ren", "sungen")


@dataclass(frozen=True)
class Method:
    """One line of a table on one dataset.

    Attributes:
        label: The line's label.
        block: What it shares with the lines that it is compared with: classifier, data, selection.
        loss: The name of its loss.
        selection: Mean accuracy on D_P' at the selected epochs, by which the best baseline is chosen; None
            where it was not evaluated there.
        predictions: Predicted classes of the test examples by seed.
        learns_from_real: Its weights are learned from D_P', so that its accuracy there chooses nothing.
    """

    label: Label
    block: tuple[str, ...]
    loss: str
    selection: float | None
    predictions: dict[int, ndarray]
    learns_from_real: bool = False

    def less(
        self, other: "Method", targets: ndarray, classes: int, metric: str, min_seeds: int
    ) -> Difference | None:
        """The difference to another line on the seeds that both have; None where these are too few.

        Args:
            other: The line that is subtracted.
            targets: True classes of the test examples.
            classes: Number of classes.
            metric: `accuracy` or `macro_f1`.
            min_seeds: How many seeds both must have, at least two.
        """
        shared = sorted(self.predictions.keys() & other.predictions.keys())
        if len(shared) < min_seeds:
            return None
        first, second = (np.stack([line.predictions[seed] for seed in shared]) for line in (self, other))
        return difference(first, second, targets, classes, metric)


@dataclass(frozen=True)
class Verdict:
    """What a table shows of a line.

    Attributes:
        marks: `*` where it differs from CE, `†` where it differs from the best baseline, `≈` where it is not
            significantly worse than the best.
        best: It has the highest mean of the lines that it was compared with.
        to_ce: The difference to CE on the same data; None for CE itself, or where it was not tested.
    """

    marks: str = ""
    best: bool = False
    to_ce: Difference | None = None


def judge(
    methods: Sequence[Method], targets: ndarray, classes: int, metric: str, min_seeds: int
) -> dict[Label, Verdict]:
    """The verdicts on the lines of a table on one dataset, in one metric; the same for lines in any order.

    Two lines are compared on the seeds that they share, if these are `min_seeds` at least. Holm's correction
    counts all comparisons with a baseline, and separately all comparisons with the best of a block.

    Args:
        methods: The lines.
        targets: True classes of the test examples.
        classes: Number of classes.
        metric: `accuracy` or `macro_f1`.
        min_seeds: How many seeds two lines must share.
    """
    methods = sorted(methods, key=lambda method: method.label)
    score = [
        float(
            np.mean(
                [pseudo_values(p[None], targets, classes, metric).mean() for p in method.predictions.values()]
            )
        )
        for method in methods
    ]

    def compare(i: int, j: int) -> Difference | None:
        return methods[i].less(methods[j], targets, classes, metric, min_seeds)

    to_baseline: list[tuple[int, str, Difference]] = []
    to_top: list[tuple[int, int, Difference]] = []
    to_ce: dict[int, Difference] = {}
    for block in dict.fromkeys(method.block for method in methods):
        inside = [i for i, method in enumerate(methods) if method.block == block]
        top = max(inside, key=lambda i: score[i])
        ce = next((i for i in inside if methods[i].loss == "ce"), None)
        best = best_baseline(methods, inside)
        for i in inside:
            if i != top and (d := compare(i, top)):
                to_top.append((i, top, d))
            if ce is not None and i != ce and (d := compare(i, ce)):
                to_ce[i] = d
                to_baseline.append((i, FROM_CE, d))
            if best is not None and i != best != ce and (d := compare(i, best)):
                to_baseline.append((i, FROM_BASELINE, d))
    marks = dict.fromkeys(range(len(methods)), "")
    for (i, mark, _), p in zip(to_baseline, holm([d.p for _, _, d in to_baseline]), strict=True):
        marks[i] += mark * (p < LEVEL)
    for (i, _, _), p in zip(to_top, holm([d.p for _, _, d in to_top]), strict=True):
        marks[i] += LIKE_BEST * (p >= LEVEL)
    tops = {top for _, top, _ in to_top}  # a line alone is the best of nothing
    return {method.label: Verdict(marks[i], i in tops, to_ce.get(i)) for i, method in enumerate(methods)}


def best_baseline(methods: Sequence[Method], inside: Sequence[int]) -> int | None:
    """The baseline of a block with the best accuracy on D_P'; None where one has no accuracy there.

    Those whose weights are learned from D_P' (Hu et al., Ren et al.) are left out: it is their training accuracy.
    """
    baselines = [i for i in inside if methods[i].loss in BASELINES and not methods[i].learns_from_real]
    scores = [methods[i].selection for i in baselines]
    known = [score for score in scores if score is not None]
    if not known or len(known) < len(scores):
        return None
    return baselines[known.index(max(known))]
