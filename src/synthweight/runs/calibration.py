"""Temperature scaling: one number that makes a checker's probabilities those of labels which it did not see."""

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

BOUNDS = (0.02, 50.0)  # of T: where every label is right, the smaller the better without end


def temperature(
    log_probs: Float[ndarray, "n classes"], targets: Int[ndarray, " n"], smoothing: float = 0.0
) -> float:
    """T = argmin −(1/n) Σ_i Σ_c q_i(c) log softmax(log p_i / T)[c], within BOUNDS.

    Guo et al. 2017, "On Calibration of Modern Neural Networks". Convex in 1/T, so with one minimum along log
    T as well. T > 1: the classifier was too sure.

    Args:
        log_probs: From models that did not see their examples.
        targets: Positions of the labels.
        smoothing: 1 − q_i(y_i), the rest shared by the other classes. 1/(n + 2), Laplace's rule of succession,
            keeps a few examples that are all right from making T as small as it may be (Platt 1999).
    """
    wide, every = log_probs.astype(np.float64), np.arange(len(targets))

    def nll(log_t: float) -> float:
        log_p = log_softmax(wide / np.exp(log_t), axis=1)
        given = log_p[every, targets]
        others = (log_p.sum(axis=1) - given) / (log_p.shape[1] - 1)
        return float(-((1 - smoothing) * given + smoothing * others).mean())

    found = minimize_scalar(nll, bounds=tuple(np.log(BOUNDS)), method="bounded", options={"xatol": 1e-8})
    return float(np.exp(found.x))


def rescale(log_probs: Float[ndarray, "n classes"], t: float) -> Float[ndarray, "n classes"]:
    """log softmax(log p / T), in the dtype of log p.

    T = 1 changes nothing, and the most likely class never changes.

    Args:
        log_probs: [n, classes].
        t: the temperature.
    """
    return log_softmax(log_probs.astype(np.float64) / t, axis=1).astype(log_probs.dtype)


def cross_rescale(
    log_probs: Float[ndarray, "n classes"],
    targets: Int[ndarray, " n"],
    folds: Int[ndarray, " n"],
    smoothing: float = 0.0,
) -> Float[ndarray, "n classes"]:
    """`rescale`, each fold by the temperature of the others: what calibrated probabilities are worth on new examples.

    Args:
        log_probs: Out of fold.
        targets: Positions of the labels.
        folds: The fold of each example.
        smoothing: As for `temperature`.
    """
    out = np.empty_like(log_probs)
    for fold in np.unique(folds):
        own = folds == fold
        t = temperature(log_probs[~own], targets[~own], smoothing)
        out[own] = rescale(log_probs[own], t)
    return out
