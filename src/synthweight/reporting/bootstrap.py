"""What is said of several seeds: mean, sample standard deviation, n; and whether a difference is more than chance."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

DRAWS = 10_000
CHUNK = 500  # draws held at once: bounds memory at CHUNK × n counts


@dataclass(frozen=True)
class Spread:
    """mean and sample standard deviation (n − 1 in the denominator; None for a single value) of n values."""

    mean: float
    sd: float | None
    n: int


def spread(values: Sequence[float]) -> Spread:
    """Raises ValueError for no value at all."""
    if not values:
        raise ValueError("no values")
    ordered = sorted(values)  # the same digits in whatever order the rows come
    return Spread(fmean(ordered), stdev(ordered) if len(ordered) > 1 else None, len(ordered))


@dataclass(frozen=True)
class Difference:
    """first − second: the mean over seeds, a 95 % percentile interval, and a two-sided p. Fractions 0–1."""

    mean: float
    low: float
    high: float
    p: float


@dataclass(frozen=True)
class Resampled:
    """A metric of several methods, as observed and in every draw; seeds and examples are paired over the methods."""

    observed: Float[ndarray, "methods seeds"]
    drawn: Float[ndarray, "draws methods seeds"]
    chosen: Int[ndarray, "draws seeds"]

    def difference(self, first: int, second: int) -> Difference:
        """The mean over the drawn seeds of metric(first) − metric(second).

        p = 2·min(P(d ≤ 0), P(d ≥ 0)), each with one draw added (Davison & Hinkley 1997), at most 1.
        """
        gaps = self.drawn[:, first] - self.drawn[:, second]
        d = np.take_along_axis(gaps, self.chosen, axis=1).mean(axis=1)
        below, above = ((1 + int((side <= 0).sum())) / (len(d) + 1) for side in (d, -d))
        low, high = np.quantile(d, [0.025, 0.975])
        mean = float((self.observed[first] - self.observed[second]).mean())
        return Difference(mean, float(low), float(high), min(1.0, 2 * min(below, above)))


def resample(
    predictions: Int[ndarray, "methods seeds n"], targets: Int[ndarray, " n"], classes: int, metrics: Sequence[str]
) -> dict[str, Resampled]:
    """Two-level paired bootstrap: each of 10,000 draws (fixed seed) takes seeds, then test examples, with replacement.

    A seed's runs and an example's predictions stay together over all methods. With one seed only the examples vary.

    Args:
        predictions: label positions; the seeds in the same order for every method.
    """
    rng = np.random.default_rng(0)
    _, seeds, n = predictions.shape
    tables = np.stack([confusions(method, targets, classes) for method in predictions])
    drawn: dict[str, list[ndarray]] = {metric: [] for metric in metrics}
    chosen = rng.integers(seeds, size=(DRAWS, seeds))
    for start in range(0, DRAWS, CHUNK):
        counts = rng.multinomial(n, np.full(n, 1 / n), size=min(CHUNK, DRAWS - start)).astype(np.float64)
        cells = np.einsum("dn,msnc->dmsc", counts, tables, optimize=True)
        for metric in metrics:
            drawn[metric].append(score(cells, classes, metric))
    whole = tables.sum(axis=2)[None]
    return {m: Resampled(score(whole, classes, m)[0], np.concatenate(drawn[m]), chosen) for m in metrics}


def paired_bootstrap(
    first: Int[ndarray, "seeds n"], second: Int[ndarray, "seeds n"], targets: Int[ndarray, " n"], classes: int, metric: str
) -> Difference:
    """The difference of two methods alone: see `resample`."""
    return resample(np.stack([first, second]), targets, classes, [metric])[metric].difference(0, 1)


def confusions(
    predictions: Int[ndarray, "seeds n"], targets: Int[ndarray, " n"], classes: int
) -> Float[ndarray, "seeds n cells"]:
    """Each example's cell of its seed's confusion matrix (target · classes + prediction), one-hot."""
    return np.eye(classes * classes)[targets[None, :] * classes + predictions]


def score(cells: Float[ndarray, "draws methods seeds cells"], classes: int, metric: str) -> Float[ndarray, "draws methods seeds"]:
    """Accuracy, or F1 averaged over all labels (0 for one that is neither there nor predicted), of confusion matrices."""
    matrix = cells.reshape(*cells.shape[:-1], classes, classes)
    hits = np.diagonal(matrix, axis1=-2, axis2=-1)
    if metric == "accuracy":
        return hits.sum(axis=-1) / matrix.sum(axis=(-2, -1))
    either = matrix.sum(axis=-1) + matrix.sum(axis=-2)
    return (2 * hits / np.maximum(either, 1)).mean(axis=-1)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction: the i-th smallest of m times (m − i), made monotone, at most 1. Holm 1979."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, i in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = largest
    return adjusted
