import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score

from synthweight import metrics

LABELS = ("a", "b", "c")


def log_probs(predictions, confidence=0.9):
    p = np.full((len(predictions), 3), (1 - confidence) / 2)
    p[np.arange(len(predictions)), predictions] = confidence
    return np.log(p).astype(np.float32)


def test_macro_f1_is_over_all_labels_even_absent_ones():
    targets, predictions = np.array([0, 0, 1, 1]), [0, 0, 1, 0]
    m = metrics.evaluate(log_probs(predictions), targets, LABELS)
    assert m["accuracy"] == accuracy_score(targets, predictions)
    assert m["macro_f1"] == pytest.approx(
        f1_score(targets, predictions, labels=[0, 1, 2], average="macro", zero_division=0)
    )
    assert m["macro_f1"] == pytest.approx((0.8 + 2 / 3 + 0) / 3)
    assert m["per_class"]["c"] == {"precision": 0.0, "recall": 0.0, "f1": 0.0, "n": 0}


def test_nll_and_calibration_error_by_hand():
    targets = np.array([0, 1, 2, 0])
    m = metrics.evaluate(log_probs([0, 1, 2, 1], 0.7), targets, LABELS)  # three right of four, all at 0.7
    assert m["nll"] == pytest.approx(-(3 * np.log(0.7) + np.log(0.15)) / 4, rel=1e-6)
    assert m["ece"] == pytest.approx(0.05, abs=1e-6)


def test_calibration_error_of_bins_that_err_in_both_directions():
    sure, unsure = log_probs([0] * 10, 0.99), log_probs([0] * 10, 0.5)
    targets = np.array([0] * 8 + [1] * 2 + [0] * 9 + [1])
    m = metrics.evaluate(np.concatenate([sure, unsure]), targets, LABELS)
    assert m["ece"] == pytest.approx((abs(0.8 - 0.99) + abs(0.9 - 0.5)) / 2, abs=1e-6)


def test_not_a_number_is_null():
    m = metrics.evaluate(np.full((2, 3), np.nan, dtype=np.float32), np.array([0, 1]), LABELS)
    assert m["nll"] is None
    assert m["ece"] is None
