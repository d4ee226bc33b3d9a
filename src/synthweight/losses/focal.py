from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import UserError
from .base import BatchScores, WeightedLoss

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


@dataclass
class Focal(WeightedLoss):
    """Focal loss: `w = (1 − p̂(y|x; θ))^γ`, γ ≥ 0; 0 ≤ w ≤ 1; γ = 0 is cross-entropy.

    Lin et al. 2017, "Focal Loss for Dense Object Detection".

    Args:
        gamma: γ.
        detach: hold w constant, as the authors of the paper do; `false` differentiates through it, as Lin et
            al. do.
    """

    gamma: float
    detach: bool

    def __post_init__(self) -> None:
        if not self.gamma >= 0:
            raise UserError(f"loss.gamma must be at least 0, is {self.gamma}")

    def weights(self, scores: BatchScores) -> Float[Tensor, " batch"]:
        from . import functional

        return functional.focal_weights(scores.nll, self.gamma, self.detach)
