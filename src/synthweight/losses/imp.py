from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from .base import BatchScores, WeightedLoss

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


@dataclass
class Imp(WeightedLoss):
    """Importance: `w = p̂'(y|x) / q̂(y|x)`, fixed before training.

    Kuo et al. 2025, "IMP-Loss": importance sampling. Under Q(x) ≈ P(x), Q(y|x) > 0 wherever P(y|x) > 0, and
    exact conditionals, the mean over D_Q converges to the cross-entropy under P. Weights are ratios of
    probabilities: ≥ 0, unbounded above (but for the guard at e^±60).

    Raises:
        MissingScoresError: the batch carries no `log_quality` or no `log_diversity`.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"quality", "diversity"})

    def weights(self, scores: BatchScores) -> Float[Tensor, " batch"]:
        from . import functional

        return functional.imp_weights(scores.quality(), scores.diversity())
