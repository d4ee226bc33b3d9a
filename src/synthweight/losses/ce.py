from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .base import Scored, Strategy

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


@dataclass
class Ce(Strategy):
    """Cross-entropy: `w = 1`."""

    def weights(self, scored: Scored) -> Float[Tensor, " batch"]:
        return scored.nll.new_ones(scored.nll.shape)
