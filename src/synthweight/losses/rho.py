from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from ..errors import require
from .base import BatchScores, WeightedLoss

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor


@dataclass
class Rho(WeightedLoss):
    """Selection by reducible loss: trains on the candidates of largest `log p̂'(y|x) − log p̂(y|x; θ_t)`.

    Of n/share candidates n are trained on.

    Mindermann et al. 2022, "Prioritized Training on Points that are Learnable, Worth Learning, and Not Yet
    Learnt" (RHO-LOSS): the loss of the model less the irreducible loss, that of a model trained on held-out
    data, for which the quality checker stands. It is the log of DIMP's weight. In the row a candidate that
    was not picked has weight 0 in that step. An epoch is one pass over the candidates, so it has `share` of
    the steps of the other losses.

    Args:
        share: of the candidates that is trained on; 1 is cross-entropy.
        renormalise: `w = 1` (the mean over the picked), else `w = share` (the mean over the candidates).

    Raises:
        UserError: share is not above 0 and at most 1.
        MissingScoresError: the batch carries no `log_quality`.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"quality"})

    share: float
    renormalise: bool

    def __post_init__(self) -> None:
        require(0 < self.share <= 1, "loss.share", "above 0 and at most 1", self.share)

    @property
    def candidates(self) -> float:
        """1 / share."""
        return 1 / self.share

    def pick(self, scores: BatchScores) -> Int[Tensor, " picked"]:
        n = len(scores.nll)  # the last candidate batch of an epoch may be a small one
        return (scores.quality() + scores.nll).topk(max(1, round(self.share * n))).indices

    def weights(self, scores: BatchScores) -> Float[Tensor, " batch"]:
        quality = scores.quality()
        return quality.new_full(quality.shape, 1.0 if self.renormalise else self.share)
