from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from .base import BatchScores, WeightedLoss

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


@dataclass
class QualityOnly(WeightedLoss):
    """Without the diversity checker: `w = p̂'(y|x)`, fixed before training; 0 ≤ w ≤ 1.

    Kuo et al. 2025, the ablation "w/o diversity checker".

    Raises:
        MissingScoresError: the batch carries no `log_quality`.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"quality"})

    def weights(self, scores: BatchScores) -> Float[Tensor, " batch"]:
        from . import functional

        return functional.quality_weights(scores.quality())
