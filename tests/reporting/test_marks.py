"""Marks and the best: which comparisons are made, and with whom."""

import dataclasses
import itertools

import numpy as np
import pytest

from synthweight.reporting.marks import Method, Verdict, best_baseline, judge

TARGETS = np.zeros(600, dtype=np.int64)


def method(loss, accuracy, seed=0, selection=0.5, block=("synthetic",), seeds=range(5)):
    """A line that is right with this probability at every example."""
    rng = np.random.default_rng(seed)
    predictions = {s: (rng.random(600) >= accuracy).astype(np.int64) for s in seeds}
    return Method((*block, loss), block, loss, selection, predictions)


def verdicts(*methods, metric="accuracy"):
    return {label[-1]: verdict for label, verdict in judge(methods, TARGETS, 2, metric, 5).items()}


LINES = [
    method("ce", 0.60, 1, 0.6), method("focal", 0.70, 2, 0.7), method("imp", 0.90, 3),
    method("dimp", 0.89, 4), method("filter", 0.61, 5),
]  # fmt: skip


@pytest.mark.parametrize("metric", ["accuracy", "macro_f1"])
def test_marks_and_the_best(metric):
    found = verdicts(*LINES, metric=metric)
    assert {loss: (v.marks, v.best) for loss, v in found.items()} == {
        "ce": ("†", False), "focal": ("*", False), "imp": ("*†", True), "dimp": ("*†≈", False),
        "filter": ("†", False),
    }  # fmt: skip
    assert found["ce"].to_ce is None
    assert 0.2 < found["imp"].to_ce.mean < 0.4 or metric == "macro_f1"
    assert found["filter"].to_ce.p > 0.05


def test_verdicts_are_the_same_for_lines_in_any_order():
    assert len({repr(sorted(verdicts(*order).items())) for order in itertools.permutations(LINES)}) == 1
    # equal: either may be the top
    twins = [method("ce", 0.6, 1), method("imp", 0.8, 3), method("dimp", 0.8, 3)]
    assert len({repr(sorted(verdicts(*order).items())) for order in itertools.permutations(twins)}) == 1


def test_lines_are_compared_on_the_seeds_that_they_share():
    few = method("imp", 0.9, 3, seeds=range(1, 6))  # four in common with the others
    assert verdicts(method("ce", 0.5), few) == {"ce": Verdict(), "imp": Verdict()}
    found = verdicts(method("ce", 0.5, seeds=range(8)), few)
    assert (found["imp"].marks, found["imp"].best, found["ce"].best) == ("*", True, False)


def test_lines_are_compared_within_their_block_alone():
    found = verdicts(method("ce", 0.5), method("imp", 0.9, block=("large_real",)))
    assert set(found.values()) == {Verdict()}


def test_best_baseline_is_chosen_on_dprime_not_on_test():
    methods = [method("ce", 0.9), method("focal", 0.5, selection=0.8), method("imp", 0.7)]
    assert best_baseline(methods, [0, 1, 2]) == 1
    unknown = [method("ce", 0.9, selection=None), method("focal", 0.5, selection=0.8)]
    assert best_baseline(unknown, [0, 1]) is None


def test_a_baseline_that_learns_from_dprime_is_not_chosen_by_its_accuracy_there():
    hu = dataclasses.replace(method("hu", 0.9, selection=0.99), learns_from_real=True)
    assert (
        best_baseline([method("ce", 0.9, selection=0.6), hu, method("focal", 0.9, selection=0.7)], [0, 1, 2])
        == 2
    )
