from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor, ones_like

from .base import Scored, Strategy


@dataclass
class Ce(Strategy):
    """Cross-entropy: `w = 1`."""

    def weights(self, scored: Scored) -> Float[Tensor, " batch"]:
        return ones_like(scored.nll)
