"""What a row reports of a set of predictions."""

from typing import Any

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

BINS = 15


def evaluate(
    log_probs: Float[ndarray, "n classes"], targets: Int[ndarray, " n"], labels: tuple[str, ...]
) -> dict[str, Any]:
    """Accuracy, macro F1 over **all** labels (0 for one never predicted), nll (nats), ece, and per class.

    Fractions 0–1.
    """
    return {
        **judged(log_probs.argmax(axis=1), targets, labels),
        "nll": number(-log_probs[np.arange(len(targets)), targets].astype(np.float64).mean()),
        "ece": number(expected_calibration_error(log_probs, targets)),
    }


def judged(
    predictions: Int[ndarray, " n"], targets: Int[ndarray, " n"], labels: tuple[str, ...]
) -> dict[str, Any]:
    """Accuracy, macro F1 and per class, of predictions alone; nll and ece are null.

    A prediction of −1 is no label's, and so wrong.
    """
    # takes a second, which commands that only read rows save
    from sklearn.metrics import precision_recall_fscore_support

    everything = list(range(len(labels)))
    precision, recall, f1, support = precision_recall_fscore_support(
        targets, predictions, labels=everything, zero_division=0.0
    )
    return {
        "accuracy": number((predictions == targets).mean()),
        "macro_f1": number(f1.mean()),
        "nll": None,
        "ece": None,
        "per_class": {
            label: {
                "precision": number(precision[i]),
                "recall": number(recall[i]),
                "f1": number(f1[i]),
                "n": int(support[i]),
            }
            for i, label in enumerate(labels)
        },
    }


def number(value: Any) -> float | None:
    """A JSON number; NaN and infinities are null."""
    return float(value) if np.isfinite(value) else None


def expected_calibration_error(log_probs: Float[ndarray, "n classes"], targets: Int[ndarray, " n"]) -> float:
    """ECE = Σ_b (n_b / n) · |accuracy_b − confidence_b|.

    Over 15 equal bins (b/15, (b+1)/15] of the largest probability.

    Naeini et al. 2015. NaN where a log-probability is NaN.
    """
    if np.isnan(log_probs).any():
        return float("nan")
    confidence = np.exp(log_probs.max(axis=1).astype(np.float64))
    right = log_probs.argmax(axis=1) == targets
    bins = np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)
    gaps = np.bincount(bins, weights=right - confidence, minlength=BINS)
    return float(np.abs(gaps).sum() / len(targets))
