from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from ..errors import require
from .base import BatchScores, WeightedLoss

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


@dataclass
class Filter(WeightedLoss):
    """Filtering instead of weighting: `w = 1` if `p̂'(y|x) > τ`, else 0.

    The paper argues against it and does not run it.

    With `renormalise`, w = n/kept over the batch, so that the loss is the mean over what is kept, as if the
    others were not there; without, a batch of which little is kept makes a small step. Where nothing is kept
    every weight is 0, and so are the loss and its gradient. τ = 0 keeps everything: cross-entropy.

    Args:
        threshold: τ.
        renormalise: see above.

    Raises:
        UserError: τ is below 0, or 1 and more.
        MissingScoresError: the batch carries no `log_quality`.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"quality"})

    threshold: float
    renormalise: bool

    def __post_init__(self) -> None:
        require(0 <= self.threshold < 1, "loss.threshold", "a probability from 0 to below 1", self.threshold)

    def weights(self, scores: BatchScores) -> Float[Tensor, " batch"]:
        from . import functional

        return functional.filter_weights(scores.quality(), self.threshold, self.renormalise)
