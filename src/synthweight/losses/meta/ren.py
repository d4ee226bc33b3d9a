"""The weights of Ren et al., learned before every step."""

import torch
from torch import Tensor

from .online import MetaLearner


class RenLearner(MetaLearner):
    """Weights of Ren et al.: `w_i = max(−r_i, 0)`.

    The state has those of the last step that saw each example.
    """

    def step_weights(self, old: Tensor) -> Tensor:
        """Zero: the look-ahead stays at the current parameters."""
        return torch.zeros_like(old)

    def update(self, old: Tensor, response: Tensor) -> Tensor:
        """max(−r, 0)."""
        return (-response).clamp_min(0)

    def normalise(self, raw: Tensor) -> tuple[Tensor, bool]:
        """n·w / Σw; all 1 where every w is 0."""
        total = raw.sum()
        if total == 0:
            return torch.ones_like(raw), True
        return len(raw) * raw / total, False
