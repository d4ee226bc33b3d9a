from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor, finfo

from ..errors import UserError
from .base import Scored, Strategy, bounded_exp


@dataclass
class Focal(Strategy):
    """Focal loss: `w = (1 − p̂(y|x; θ))^γ`, γ ≥ 0; 0 ≤ w ≤ 1; γ = 0 is cross-entropy.

    Lin et al. 2017, "Focal Loss for Dense Object Detection". `detach=true` holds w constant, as the authors of the
    paper do; `false` differentiates through it, as Lin et al. do.
    """

    gamma: float
    detach: bool

    def __post_init__(self) -> None:
        if not self.gamma >= 0:
            raise UserError(f"loss.gamma must be at least 0, is {self.gamma}")

    def weights(self, scored: Scored) -> Float[Tensor, " batch"]:
        nll = scored.nll.detach() if self.detach else scored.nll
        # 1 − p = −expm1(log p): no cancellation near p = 1; the floor keeps the logarithm's gradient finite at p = 1
        rest = nll.neg().expm1().neg().clamp_min(finfo(nll.dtype).tiny)
        return bounded_exp(self.gamma * rest.log())
