"""What may be done to any loss's weights before they are used: clipping and self-normalisation."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING

from ..errors import require

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


@dataclass
class Weighting:
    """Clipping, then self-normalisation: `w ← min(w, clip)`, `w ← n·w / Σ_j w_j` over the batch.

    The sum has no gradient.

    Importance weights have a high variance. Truncating them trades it for bias (Ionides 2008, "Truncated
    Importance Sampling"); dividing by their sum makes the mean weight 1, whatever the scale of the checkers
    (Owen 2013, "Monte Carlo theory, methods and examples", ch. 9: biased by O(1/n), consistent). A batch
    whose weights are all 0 keeps them.

    Args:
        clip: upper bound; None for no bound.
        self_normalise: whether to divide by the mean weight.

    Raises:
        UserError: clip is not above 0, or not finite.
    """

    clip: float | None
    self_normalise: bool

    def __post_init__(self) -> None:
        require(
            self.clip is None or 0 < self.clip < inf,
            "weighting.clip",
            "above 0, or null for no bound",
            self.clip,
        )

    def __call__(self, weights: Float[Tensor, " batch"]) -> Float[Tensor, " batch"]:
        from . import functional

        if self.clip is not None:
            weights = functional.clip_weights(weights, self.clip)
        if self.self_normalise:
            weights = functional.self_normalise(weights)
        return weights


PLAIN = Weighting(clip=None, self_normalise=False)  # the loss's own weights
