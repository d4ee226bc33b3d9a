from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .base import BatchScores, WeightedLoss

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


@dataclass
class Ce(WeightedLoss):
    """Cross-entropy: `w = 1`."""

    def weights(self, scores: BatchScores) -> Float[Tensor, " batch"]:
        return scores.nll.new_ones(scores.nll.shape)
