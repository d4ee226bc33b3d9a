"""The test of a difference: its mean squares by definition, and its rate of false positives."""

import dataclasses
import itertools
import math

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import accuracy_score, f1_score

from synthweight.reporting.significance import Difference, difference, holm, pooled, pseudo_values

METRICS = ("accuracy", "macro_f1")


def metric_of(metric, targets, predicted, classes):
    if metric == "accuracy":
        return accuracy_score(targets, predicted)
    return f1_score(targets, predicted, average="macro", labels=range(classes), zero_division=0.0)


def anova(y):
    """The mean squares T, TR, TC, TRC of values [treatment, reader, case], summed cell by cell."""
    t, r, c = y.shape
    grand = y.mean()
    squares = dict.fromkeys(("T", "TR", "TC", "TRC"), 0.0)
    for i, j, k in itertools.product(range(t), range(r), range(c)):
        ti, rj, ck = y[i].mean() - grand, y[:, j].mean() - grand, y[:, :, k].mean() - grand
        tr = y[i, j].mean() - grand - ti - rj
        tc = y[i, :, k].mean() - grand - ti - ck
        rc = y[:, j, k].mean() - grand - rj - ck
        squares["T"] += ti**2
        squares["TR"] += tr**2
        squares["TC"] += tc**2
        squares["TRC"] += (y[i, j, k] - grand - ti - rj - ck - tr - tc - rc) ** 2
    df = {"T": t - 1, "TR": (t - 1) * (r - 1), "TC": (t - 1) * (c - 1), "TRC": (t - 1) * (r - 1) * (c - 1)}
    return {key: total / df[key] for key, total in squares.items()}


@pytest.mark.parametrize("own_errors", [False, True])
@pytest.mark.parametrize("metric", METRICS)
def test_equals_the_analysis_of_variance_written_out(metric, own_errors):
    """own_errors: all seeds of a method err at the same examples, so that MS(TC) is above MS(TRC)."""
    rng = np.random.default_rng(1)
    targets = rng.integers(4, size=60)
    right = [rng.random((4, 60)) < share for share in (0.75, 0.5)]
    first, second = (np.where(r, targets, rng.integers(4, size=(4, 60))) for r in right)
    if own_errors:
        first[:, :5], second[:, 5:20] = 0, 1
    d = difference(first, second, targets, 4, metric)
    ms = anova(np.stack([pseudo_values(p, targets, 4, metric) for p in (first, second)]))
    denominator = ms["TR"] + max(ms["TC"] - ms["TRC"], 0.0)
    ddf = denominator**2 / (ms["TR"] ** 2 / 3)
    assert (ms["TC"] > ms["TRC"]) == own_errors
    assert d.ddf == pytest.approx(ddf)
    assert d.p == pytest.approx(stats.f.sf(ms["T"] / denominator, 1, ddf))
    assert d.high - d.mean == pytest.approx(d.mean - d.low)
    ratio = 2 * d.mean / (d.high - d.low)  # at 1 the interval ends at 0 and F is at its 95 % point
    assert ratio**2 * stats.f.ppf(0.95, 1, ddf) == pytest.approx(ms["T"] / denominator)


@pytest.mark.parametrize("metric", METRICS)
def test_pseudo_values_leave_each_example_out(metric):
    """Classes that are never predicted, never true, predicted once or true once included."""
    rng = np.random.default_rng(2)
    n, classes = 40, 6
    targets, predicted = rng.integers(3, size=n), rng.integers(3, size=(3, n))
    targets[0], targets[1], predicted[0, 2], predicted[:, 0] = 3, 4, 5, 3
    values = pseudo_values(predicted, targets, classes, metric)
    for own, row in zip(predicted, values, strict=True):
        whole = metric_of(metric, targets, own, classes)
        left_out = [metric_of(metric, np.delete(targets, i), np.delete(own, i), classes) for i in range(n)]
        jackknife = n * whole - (n - 1) * np.array(left_out)
        assert row == pytest.approx(jackknife - jackknife.mean() + whole)


@pytest.mark.parametrize("metric", METRICS)
def test_large_difference_is_found_with_its_sign(metric):
    rng = np.random.default_rng(3)
    targets = rng.integers(3, size=400)
    good, bad = (np.where(rng.random((5, 400)) < share, targets, (targets + 1) % 3) for share in (0.9, 0.6))
    d, reverse = difference(good, bad, targets, 3, metric), difference(bad, good, targets, 3, metric)
    means = [np.mean([metric_of(metric, targets, p, 3) for p in method]) for method in (good, bad)]
    assert d.mean == pytest.approx(means[0] - means[1])
    assert d.p < 0.001
    assert 0.2 < d.low < d.mean < d.high < 0.4
    assert [reverse.mean, reverse.low, reverse.p] == pytest.approx([-d.mean, -d.high, d.p])


def test_seeds_that_disagree_widen_the_interval():
    """Three seeds that differ among themselves are no evidence, however many examples."""
    targets = np.zeros(2000, dtype=np.int64)
    base = np.ones((3, 2000), dtype=np.int64)
    base[:, :1000] = 0
    steady, shaky = base.copy(), base.copy()
    steady[:, 1000:1100] = 0  # every seed 5 points better
    shaky[0, 1000:1400] = 0  # one seed 20 points better, one 5 worse, one equal
    shaky[1, :100] = 1
    s, w = (difference(x, base, targets, 2, "accuracy") for x in (steady, shaky))
    assert s.mean == pytest.approx(w.mean)
    assert (s.p < 0.01, s.ddf, w.p > 0.2) == (True, math.inf, True)
    assert w.high - w.low > 3 * (s.high - s.low)


def test_degenerate_cases():
    targets = np.array([0, 0, 0, 1, 1, 1])
    right = np.tile(targets, (3, 1))
    for metric in METRICS:
        assert difference(right, right, targets, 2, metric) == Difference(0.0, 0.0, 0.0, 1.0, math.inf, 0.0)
        assert difference(right, 1 - right, targets, 2, metric).p == 0.0
    rotated = right.copy()  # each seed errs once, at another example: the examples' variance counts alone
    rotated[[0, 1, 2], [0, 1, 2]] = 1
    d = difference(right, rotated, targets, 2, "accuracy")
    by_example = np.array([1, 1, 1, 0, 0, 0]) / 3
    assert d.standard_error == pytest.approx(by_example.std(ddof=1) / math.sqrt(6))
    for bad in (right[:1], right[:2], right[:, :5]):
        with pytest.raises(ValueError, match="two at least"):
            difference(right if len(bad) > 1 else bad, bad, targets, 2, "accuracy")
    with pytest.raises(ValueError, match="no metric nll"):
        difference(right, rotated, targets, 2, "nll")


def equal_methods(rng, seeds, shift):
    """Predictions of two equally good methods, and the targets: 1,217 examples of three classes.

    A prediction is correct where a sum is above 0: of a constant and of normal effects of the example, of the
    example on the method, of the seed (sd `shift`), and of seed and example. Their sizes give accuracies and
    mean squares like those of MiniLM on product_reviews.
    """
    n = 1217
    targets = rng.choice(3, size=n, p=[0.5, 0.3, 0.2])
    difficulty = 1.9 + 1.5 * rng.normal(size=n)
    out = []
    for _ in range(2):
        by_seed = shift * rng.normal(size=(seeds, 1)) + 0.8 * rng.normal(size=(seeds, n))
        wrong = (targets + rng.integers(1, 3, size=(seeds, n))) % 3
        out.append(np.where(difficulty + 0.4 * rng.normal(size=n) + by_seed > 0, targets, wrong))
    return *out, targets


SHIFTS = {1.1: 0.07, 2.1: 0.16, 3.6: 0.28}  # sd of accuracies over seeds, in points: by this shift


def false_positives(replications):
    """The share of p < 0.05 by (sd, seeds, metric)."""
    out = {}
    for sd, shift in SHIFTS.items():
        for seeds in (3, 5, 10):
            rng = np.random.default_rng([seeds, int(10 * sd)])
            found, variances = dict.fromkeys(METRICS, 0), []
            for _ in range(replications):
                first, second, targets = equal_methods(rng, seeds, shift)
                variances.append((first == targets).mean(axis=1).var(ddof=1))
                for metric in METRICS:
                    found[metric] += difference(first, second, targets, 3, metric).p < 0.05
            assert 100 * math.sqrt(np.mean(variances)) == pytest.approx(sd, rel=0.1)
            out |= {(sd, seeds, metric): count / replications for metric, count in found.items()}
    return out


def test_false_positives_are_as_rare_as_promised():
    rates = false_positives(400)
    assert all(0.02 <= rate <= 0.09 for rate in rates.values()), rates
    tested = [rate for (_, seeds, _), rate in rates.items() if seeds >= 5]  # tables mark nothing with fewer
    assert 0.04 <= np.mean(tested) <= 0.07, rates


@pytest.mark.slow
def test_false_positives_of_every_spread():
    rates = false_positives(2000)
    print(rates)
    for (_, seeds, _), rate in rates.items():
        assert 0.035 <= rate <= (0.07 if seeds >= 5 else 0.085), rates


def study(mean, standard_error):
    return Difference.from_t(mean, standard_error, 10)


def test_pooled_by_hand():
    """With equal variances it is the t test of k values, whatever the variance between datasets."""
    means = [0.03, 0.01, 0.08]
    d = pooled([study(m, 0.01) for m in means])
    t = stats.ttest_1samp(means, 0.0)
    assert (d.mean, d.p, d.ddf) == (pytest.approx(np.mean(means)), pytest.approx(t.pvalue), 2)
    assert (d.low, d.high) == pytest.approx(t.confidence_interval(0.95))
    # alike by chance: no surer than three studies of this standard error can be
    d = pooled([study(m, 0.01) for m in (0.030, 0.031, 0.029)])
    assert (d.mean, d.standard_error) == (pytest.approx(0.03), pytest.approx(0.01 / math.sqrt(3)))
    # w = 1/variance = 10000, 2500; mean = 0.018; Q = 10000·0.002² + 2500·0.008² = 0.2 < 1: between = 0
    d = pooled([study(0.02, 0.01), study(0.01, 0.02)])
    assert (d.mean, d.standard_error) == (pytest.approx(0.018), pytest.approx(math.sqrt(1 / 12500)))
    # mean = 0.05; Q = 10000·0.01² + 2500·0.04² = 5; between = (5 − 1) / (12500 − 106250000 / 12500) = 0.001
    d = pooled([study(0.06, 0.01), study(0.01, 0.02)])
    w = np.array([1 / 0.0011, 1 / 0.0014])
    mean = (0.06 * w[0] + 0.01 * w[1]) / w.sum()
    spread = (w[0] * (0.06 - mean) ** 2 + w[1] * (0.01 - mean) ** 2) / w.sum()
    assert (d.mean, d.standard_error) == (pytest.approx(mean), pytest.approx(math.sqrt(spread)))
    assert d.p == pytest.approx(2 * stats.t.sf(d.mean / d.standard_error, 1))


def test_pooled_in_any_order_has_the_same_digits():
    studies = [study(0.1, 0.01), study(0.7, 0.3), study(1e-9, 0.02), study(0.3, 0.1)]
    assert len({dataclasses.astuple(pooled(p)) for p in itertools.permutations(studies)}) == 1


def test_one_dataset_or_one_without_error_is_not_pooled():
    assert pooled([study(0.1, 0.01)]) is None
    assert pooled([study(0.1, 0.01), study(0.0, 0.0)]) is None


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []
