"""What is said of several seeds: mean, sample standard deviation, n."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev


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
