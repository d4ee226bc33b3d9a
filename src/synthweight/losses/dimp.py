from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from .base import BatchScores, WeightedLoss

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


@dataclass
class Dimp(WeightedLoss):
    """Dynamic importance: `w = p̂'(y|x) / p̂(y|x; θ_t)`, computed at every step, without a gradient.

    Kuo et al. 2025, "DIMP-Loss": among the examples, prefer the one whose update brings the model closest to
    P on D_P'; Bayes' rule gives the ratio of the posterior with D_P' to the posterior without, and the static
    quality checker stands for the former. log w is the reducible holdout loss (Mindermann et al. 2022). The
    denominator comes from the same training-mode forward pass as the loss. Because p̂ ≤ 1, the loss is at
    least the quality-weighted cross-entropy. Weights are ratios of probabilities: ≥ 0, unbounded above (but
    for the guard at e^±60).

    Raises:
        MissingScoresError: the batch carries no `log_quality` (the quality checker was not run).
    """

    needs: ClassVar[frozenset[str]] = frozenset({"quality"})

    def weights(self, scores: BatchScores) -> Float[Tensor, " batch"]:
        from . import functional

        return functional.dimp_weights(scores.quality(), scores.nll)
