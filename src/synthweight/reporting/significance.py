"""Whether the difference of two methods is more than chance: over seeds and examples, and over datasets.

Applied by `marks` to tables, by `claims` to claims, and by the workbench to its folds.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

LEVEL = 0.05
ROUNDING = 1e-20  # mean squares below are rounding errors: those of real predictions start near 1e-8


@dataclass(frozen=True)
class Difference:
    """A mean difference with its 95 % interval and two-sided test. All but `p` and `ddf` are fractions.

    Attributes:
        mean: The observed difference, first − second.
        low: The lower end of the 95 % interval.
        high: The upper end of the 95 % interval.
        p: The p-value of the hypothesis that there is no difference.
        ddf: Degrees of freedom of the test's denominator; infinite where the seeds do not vary at all.
        standard_error: The standard error of `mean`.
    """

    mean: float
    low: float
    high: float
    p: float
    ddf: float
    standard_error: float

    @classmethod
    def from_t(cls, mean: float, standard_error: float, ddf: float) -> "Difference":
        """Test and interval by the t distribution: t² = (mean / standard_error)² is F(1, ddf)."""
        from scipy import stats  # half a second: a table without a test does not pay for it

        if standard_error == 0:
            return cls(mean, mean, mean, float(mean == 0), ddf, 0.0)
        half = standard_error * float(stats.t.ppf(1 - LEVEL / 2, ddf))
        p = 2 * float(stats.t.sf(abs(mean) / standard_error, ddf))
        return cls(mean, mean - half, mean + half, p, ddf, standard_error)


def difference(
    first: Int[ndarray, "seeds n"],
    second: Int[ndarray, "seeds n"],
    targets: Int[ndarray, " n"],
    classes: int,
    metric: str,
) -> Difference:
    """Tests metric(first) − metric(second), for other seeds and other test examples of the same kind.

    The random-effects analysis of multi-reader multi-case studies (Dorfman, Berbaum & Metz 1992), with seeds
    as readers and test examples as cases, on jackknife pseudo-values. Let d[s, i] be the paired difference of
    the two methods' pseudo-values, S the seeds, n the examples. With two treatments the mean squares of the
    three-way analysis of variance are

        MS(T)   = S n d̄² / 2
        MS(TR)  = n Σ_s (d̄[s] − d̄)² / (2 (S − 1))
        MS(TC)  = S Σ_i (d̄[i] − d̄)² / (2 (n − 1))
        MS(TRC) = Σ_si (d[s, i] − d̄[s] − d̄[i] + d̄)² / (2 (S − 1) (n − 1))

    and F = MS(T) / D with D = MS(TR) + max(MS(TC) − MS(TRC), 0) has 1 and D² / (MS(TR)² / (S − 1)) degrees of
    freedom (Hillis 2007). The standard error of d̄ is √(2 D / (S n)).

    Args:
        first: Predicted classes of one method, one row per seed.
        second: Predicted classes of the other; the same seeds and examples in the same order.
        targets: True classes.
        classes: Number of classes.
        metric: `accuracy` or `macro_f1`.

    Returns:
        The difference. It is 0 with p = 1 for equal predictions.

    Raises:
        ValueError: Fewer than two seeds or two examples, or the shapes differ.
    """
    seeds, n = first.shape
    if second.shape != first.shape or targets.shape != (n,) or seeds < 2 or n < 2:
        shapes = f"{first.shape}, {second.shape}, {targets.shape}"
        raise ValueError(f"needs two methods with the same seeds (two at least) and examples: {shapes}")
    d = pseudo_values(first, targets, classes, metric) - pseudo_values(second, targets, classes, metric)
    mean, by_seed, by_example = d.mean(), d.mean(axis=1), d.mean(axis=0)
    tr = n * ((by_seed - mean) ** 2).sum() / (2 * (seeds - 1))
    tc = seeds * ((by_example - mean) ** 2).sum() / (2 * (n - 1))
    residuals = d - by_seed[:, None] - by_example[None, :] + mean
    trc = (residuals**2).sum() / (2 * (seeds - 1) * (n - 1))
    tr = tr if tr > ROUNDING else 0.0
    # Seeds that differ by exactly the same amount can leave no variance: the examples' then counts in full.
    denominator = tr + max(tc - trc, 0.0) or (tc if tc > ROUNDING else 0.0)
    ddf = denominator**2 / (tr**2 / (seeds - 1)) if tr else np.inf
    return Difference.from_t(float(mean), float(np.sqrt(2 * denominator / (seeds * n))), float(ddf))


def pseudo_values(
    predictions: Int[ndarray, "seeds n"], targets: Int[ndarray, " n"], classes: int, metric: str
) -> Float[ndarray, "seeds n"]:
    """The jackknife pseudo-values of a metric, n θ − (n − 1) θ[without i], shifted so that their mean is θ.

    The shift, by the jackknife's estimate of the bias, makes differences those that a table shows (Hillis,
    Berbaum & Metz 2008). Of accuracy they are 1 for a correct prediction and 0 for a wrong one. Leaving out
    one example changes macro F1 by the F1 of its true and its predicted class alone, so that all n values of
    a seed come from one confusion matrix.

    Args:
        predictions: Predicted classes, one row per seed.
        targets: True classes.
        classes: Number of classes.
        metric: `accuracy` or `macro_f1`.

    Raises:
        ValueError: An unknown metric.
    """
    if metric == "accuracy":
        return (predictions == targets).astype(np.float64)
    if metric != "macro_f1":
        raise ValueError(f"no metric {metric}: accuracy or macro_f1")
    seeds, n = predictions.shape
    cells = (np.arange(seeds)[:, None] * classes + targets) * classes + predictions
    confusion = np.bincount(cells.ravel(), minlength=seeds * classes**2).reshape(seeds, classes, classes)
    hits = np.diagonal(confusion, axis1=1, axis2=2)
    size = confusion.sum(axis=1) + confusion.sum(axis=2)  # F1 = 2 hits / size
    f1 = 2 * hits / np.maximum(size, 1)
    less_hit = 2 * (hits - 1) / np.maximum(size - 2, 1) - f1  # a class's change of F1 without one of its hits
    less_miss = 2 * hits / np.maximum(size - 1, 1) - f1  # the same without an error that involves the class
    seed = np.arange(seeds)[:, None]
    miss = less_miss[seed, targets] + less_miss[seed, predictions]
    change = np.where(predictions == targets, less_hit[seed, predictions], miss) / classes
    pseudo = -(n - 1) * change
    return pseudo - pseudo.mean(axis=1, keepdims=True) + f1.mean(axis=1, keepdims=True)


def paired_t(values: Sequence[float]) -> Difference:
    """The mean of paired differences, tested by Student's t.

    Args:
        values: One difference per seed or per example, two at least.
    """
    return Difference.from_t(fmean(values), stdev(values) / len(values) ** 0.5, len(values) - 1)


def pooled(differences: Sequence[Difference]) -> Difference | None:
    """The mean difference over datasets that are a sample of others: a random-effects meta-analysis.

    The variance between datasets is DerSimonian and Laird's (1986), at least 0; the interval and the test are
    those of Hartung and Knapp (2001) and Sidik and Jonkman (2002), with k − 1 degrees of freedom for k
    datasets and a standard error not below the random-effects one, so that few differences that happen to be
    alike are not taken for certain (Röver, Knapp and Friede 2015). (In statsmodels' `combine_effects` the
    variance between datasets can be negative.)

    Args:
        differences: One per dataset, independent of each other.

    Returns:
        The pooled difference; None with fewer than two datasets, or where one has a standard error of 0 and
        would outweigh all others.
    """
    k = len(differences)
    if k < 2 or any(d.standard_error == 0 for d in differences):
        return None
    ordered = sorted(differences, key=lambda d: (d.mean, d.standard_error))  # the same digits in any order
    effect = np.array([d.mean for d in ordered])
    variance = np.array([d.standard_error for d in ordered]) ** 2
    fixed = 1 / variance
    q = (fixed * (effect - np.average(effect, weights=fixed)) ** 2).sum()
    between = max(0.0, (q - (k - 1)) / (fixed.sum() - (fixed**2).sum() / fixed.sum()))
    weights = 1 / (variance + between)
    mean = np.average(effect, weights=weights)
    spread = (weights * (effect - mean) ** 2).sum() / ((k - 1) * weights.sum())
    return Difference.from_t(float(mean), float(np.sqrt(max(spread, 1 / weights.sum()))), k - 1)


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusts p-values for their number (Holm 1979).

    The i-th smallest of m, counted from 0, is multiplied by m − i; the results are made monotone, at most 1.
    """
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, i in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = largest
    return adjusted
