import itertools
import statistics

import numpy as np
import pytest

from synthweight.reporting.bootstrap import holm, paired_bootstrap, spread


def test_mean_and_sample_deviation():
    s = spread([1.0, 2.0, 4.0])
    assert (s.mean, s.sd, s.n) == (pytest.approx(7 / 3), pytest.approx(statistics.stdev([1, 2, 4])), 3)


def test_one_value_has_no_deviation():
    assert spread([5.0]).sd is None


def test_none_is_an_error():
    with pytest.raises(ValueError, match="no values"):
        spread([])


def test_any_order_gives_the_same_bits():
    values = [0.1, 0.7, 1e-9, 3.3]
    assert len({(spread(p).mean, spread(p).sd) for p in itertools.permutations(values)}) == 1


def correct(accuracy: float, seeds: int, n: int, rng) -> np.ndarray:
    """Predictions that are right with this probability; the target is always 0."""
    return (rng.random((seeds, n)) >= accuracy).astype(np.int64)


def test_bootstrap_of_a_method_with_itself_finds_nothing():
    rng = np.random.default_rng(0)
    a = correct(0.7, 3, 200, rng)
    d = paired_bootstrap(a, a, np.zeros(200, dtype=np.int64), 2, "accuracy")
    assert (d.mean, d.low, d.high, d.p) == (0.0, 0.0, 0.0, 1.0)


@pytest.mark.parametrize("metric", ["accuracy", "macro_f1"])
def test_bootstrap_finds_a_large_difference_and_its_sign(metric):
    rng = np.random.default_rng(1)
    targets = rng.integers(2, size=400)
    good, bad = (np.where(rng.random((3, 400)) < share, targets, 1 - targets) for share in (0.9, 0.6))
    d = paired_bootstrap(good, bad, targets, 2, metric)
    assert d.p < 0.001
    assert 0.2 < d.low < d.mean < d.high < 0.4
    other = paired_bootstrap(bad, good, targets, 2, metric)
    assert other.mean == pytest.approx(-d.mean)
    assert other.p == d.p


def test_bootstrap_observed_difference_is_the_metrics_own():
    from sklearn.metrics import accuracy_score, f1_score

    rng = np.random.default_rng(2)
    targets = rng.integers(3, size=150)
    a, b = rng.integers(3, size=(2, 4, 150))
    for metric, own in (
        ("accuracy", accuracy_score),
        ("macro_f1", lambda t, p: f1_score(t, p, average="macro", labels=[0, 1, 2])),
    ):
        want = np.mean([own(targets, x) - own(targets, y) for x, y in zip(a, b, strict=True)])
        assert paired_bootstrap(a, b, targets, 3, metric).mean == pytest.approx(want)


def test_seeds_that_disagree_widen_the_interval():
    """The first level counts: three seeds that differ among themselves are no evidence, however many examples."""
    targets = np.zeros(2000, dtype=np.int64)
    b = np.ones((3, 2000), dtype=np.int64)
    b[:, :1000] = 0
    steady, shaky = b.copy(), b.copy()
    steady[:, 1000:1100] = 0  # each seed 5 points better
    shaky[0, 1000:1400] = 0  # one seed 20 points better, one 5 worse, one equal
    shaky[1, :100] = 1
    s, w = (paired_bootstrap(x, b, targets, 2, "accuracy") for x in (steady, shaky))
    assert s.mean == pytest.approx(w.mean)
    assert s.p < 0.01
    assert w.p > 0.2
    assert w.high - w.low > 3 * (s.high - s.low)


def test_false_alarms_are_about_as_rare_as_promised():
    """Equal methods, independent errors: p < 0.05 in about 5 % of trials (few seeds make it somewhat more)."""
    rng = np.random.default_rng(3)
    targets = np.zeros(100, dtype=np.int64)
    alarms = sum(
        paired_bootstrap(correct(0.7, 1, 100, rng), correct(0.7, 1, 100, rng), targets, 2, "accuracy").p < 0.05 for _ in range(30)
    )
    assert alarms <= 5


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []
