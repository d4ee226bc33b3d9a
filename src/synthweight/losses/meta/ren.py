"""The weights of Ren et al., learned before every step."""

import torch
from torch import Tensor

from .online import Online


class RenLearner(Online):
    """The weights of the last step that saw each example."""

    def start(self, old: Tensor) -> Tensor:
        return torch.zeros_like(old)

    def renew(self, old: Tensor, response: Tensor) -> Tensor:
        return (-response).clamp_min(0)

    def normalise(self, raw: Tensor) -> tuple[Tensor, bool]:
        total = raw.sum()
        if total == 0:
            return torch.ones_like(raw), True
        return len(raw) * raw / total, False
