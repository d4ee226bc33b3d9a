"""A temperature found where it is known."""

import numpy as np
import pytest
from scipy.special import log_softmax

from synthweight.runs import calibration


@pytest.fixture
def honest():
    """20,000 distributions over three classes, and a label drawn from each."""
    rng = np.random.default_rng(0)
    log_probs = log_softmax(2 * rng.standard_normal((20_000, 3)), axis=1)
    return log_probs, (rng.gumbel(size=log_probs.shape) + log_probs).argmax(axis=1)


@pytest.mark.parametrize("t", [0.1, 0.5, 1.0, 3.0])
def test_the_temperature_that_was_put_in_is_found(honest, t):
    log_probs, targets = honest
    assert calibration.temperature(log_softmax(t * log_probs, axis=1), targets) == pytest.approx(t, rel=0.04)


def test_it_is_the_minimum(honest):
    log_probs, targets = honest[0][:300] * 4, honest[1][:300]
    t = calibration.temperature(log_probs, targets)

    def nll(by):
        return -calibration.rescale(log_probs, by)[np.arange(300), targets].mean()

    assert nll(t) == pytest.approx(min(nll(x) for x in np.geomspace(0.1, 20, 400)), abs=1e-5)
    assert nll(t) <= nll(1.0)


def test_a_temperature_of_one_changes_nothing_and_none_changes_the_answer(honest):
    log_probs = honest[0].astype(np.float32)
    same = calibration.rescale(log_probs, 1.0)
    assert same.dtype == np.float32
    np.testing.assert_allclose(same, log_probs, atol=1e-6)
    for t in (0.2, 7.0):
        scaled = calibration.rescale(log_probs, t)
        assert (scaled.argmax(axis=1) == log_probs.argmax(axis=1)).all()
        np.testing.assert_allclose(np.exp(scaled).sum(axis=1), 1, atol=1e-5)


def test_labels_that_are_all_right_or_all_wrong_stay_within_the_bounds(honest):
    log_probs = honest[0][:100]
    low, high = calibration.BOUNDS
    assert low <= calibration.temperature(log_probs, log_probs.argmax(axis=1)) < 2 * low
    assert high / 2 < calibration.temperature(log_probs, log_probs.argmin(axis=1)) <= high


def test_smoothed_labels_that_are_all_right_do_not_make_it_sure_beyond_the_evidence():
    """100 of 100 right: the mean probability of the labels is that of Laplace's rule of succession."""
    log_probs = np.tile(np.log([0.6, 0.2, 0.2]), (100, 1))
    t = calibration.temperature(log_probs, np.zeros(100, dtype=int), 1 / 102)
    assert np.exp(calibration.rescale(log_probs, t))[0, 0] == pytest.approx(101 / 102, abs=1e-4)


def test_a_fold_is_rescaled_by_the_temperature_of_the_others(honest):
    log_probs, targets, folds = honest[0][:300], honest[1][:300], np.arange(300) % 3
    found = calibration.cross_rescale(log_probs, targets, folds)
    others = folds != 1
    t = calibration.temperature(log_probs[others], targets[others])
    np.testing.assert_array_equal(found[~others], calibration.rescale(log_probs[~others], t))
