"""Which differences between the lines of a table are more than chance."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy import ndarray

from . import bootstrap

BASELINES = ("ce", "focal", "hu", "ren", "sungen")
LEVEL = 0.05
LEGEND = (
    "Mean ± sample standard deviation over n seeds, % of the test set. `*`: differs from CE on the same data, `†`: from the "
    "best baseline there as chosen on D_P' (p < 0.05, two-level paired bootstrap over seeds and test examples, 10,000 draws, "
    "Holm within a dataset). **Bold**: not significantly worse than the best on the same data."
)


@dataclass(frozen=True)
class Method:
    """One line of a table on one dataset. `block` is what it shares with the lines that it is compared with."""

    label: tuple[str, ...]
    block: tuple[str, ...]
    loss: str
    selection: float | None  # mean accuracy on D_P' at the selected epochs: what a baseline is chosen by
    predictions: ndarray  # label positions, [seeds, n]


@dataclass(frozen=True)
class Verdict:
    marks: str = ""
    bold: bool = False


def verdicts(
    methods: Sequence[Method], targets: ndarray, classes: int, metrics: Sequence[str]
) -> dict[tuple[tuple[str, ...], str], Verdict]:
    """By (label, metric). Every method has the same seeds in the same order."""
    sampled = bootstrap.resample(np.stack([m.predictions for m in methods]), targets, classes, metrics)
    out: dict[tuple[tuple[str, ...], str], Verdict] = {}
    for metric in metrics:
        of = sampled[metric]
        against: list[tuple[int, int, str]] = []
        tops: list[tuple[int, int]] = []
        for block in dict.fromkeys(m.block for m in methods):
            inside = [i for i, m in enumerate(methods) if m.block == block]
            top = max(inside, key=lambda i: float(of.observed[i].mean()))
            tops += [(i, top) for i in inside if i != top]
            ce = next((i for i in inside if methods[i].loss == "ce"), None)
            best = best_baseline(methods, inside)
            against += [(i, ce, "*") for i in inside if ce is not None and i != ce]
            against += [(i, best, "†") for i in inside if best is not None and best != ce and i != best]
        corrected = bootstrap.holm([of.difference(i, j).p for i, j, _ in against])
        marks: dict[int, str] = {}
        for (i, _, mark), p in zip(against, corrected, strict=True):
            marks[i] = marks.get(i, "") + (mark if p < LEVEL else "")
        rivals = {i for pair in tops for i in pair}  # a line that stands alone is best of nothing
        worse = {i for (i, _), p in zip(tops, bootstrap.holm([of.difference(i, j).p for i, j in tops]), strict=True) if p < LEVEL}
        for i, method in enumerate(methods):
            out[method.label, metric] = Verdict(marks.get(i, ""), i in rivals - worse)
    return out


def best_baseline(methods: Sequence[Method], inside: Sequence[int]) -> int | None:
    """The baseline of a block with the best accuracy on D_P'; None where one of them was not scored there."""
    baselines = [i for i in inside if methods[i].loss in BASELINES]
    scores = [methods[i].selection for i in baselines]
    known = [score for score in scores if score is not None]
    if not known or len(known) < len(scores):
        return None
    return baselines[known.index(max(known))]
