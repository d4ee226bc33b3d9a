"""The weights of Hu et al., learned before every step."""

import torch
from torch import Tensor

from ..hu import Hu
from .online import Online


class HuLearner(Online):
    """Raw weights of Hu et al., one an example, 1 at first."""

    settings: Hu

    def start(self, old: Tensor) -> Tensor:
        return old * (self.settings.reach / self.settings.sub_batch)

    def renew(self, old: Tensor, response: Tensor) -> Tensor:
        return (old / self.settings.decay - response).clamp_min(self.settings.floor)

    def normalise(self, raw: Tensor) -> tuple[Tensor, bool]:
        floored = bool((raw <= self.settings.floor).all())
        shares = torch.softmax(raw, 0) if self.settings.normalise == "softmax" else raw / raw.sum()
        return len(raw) * shares, floored
