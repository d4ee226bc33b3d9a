from __future__ import annotations

from dataclasses import dataclass
from math import inf, log
from typing import TYPE_CHECKING, ClassVar

from ..errors import require
from .base import Scored, Strategy

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


@dataclass
class Filter(Strategy):
    """Filtering instead of weighting: `w = 1` if `p̂'(y|x) > τ`, else 0; what the paper argues against and does not run.

    With `renormalise`, w = n/kept over the batch, so that the loss is the mean over what is kept, as if the others were
    not there; without, a batch of which little is kept makes a small step. Where nothing is kept every weight is 0, and
    so is the loss (its gradient too). τ = 0 keeps all: cross-entropy.

    Raises:
        UserError: τ is below 0, or so high that nothing could be kept. MissingScores: the batch carries no `log_quality`.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"quality"})

    threshold: float
    renormalise: bool

    def __post_init__(self) -> None:
        require(0 <= self.threshold < 1, "loss.threshold", "a probability from 0 to below 1", self.threshold)

    def weights(self, scored: Scored) -> Float[Tensor, " batch"]:
        bar = log(self.threshold) if self.threshold > 0 else -inf
        kept = (scored.quality() > bar).to(scored.nll.dtype)
        return kept * len(kept) / kept.sum().clamp_min(1) if self.renormalise else kept
