"""The weights of Hu et al., learned before every step."""

import torch
from torch import Tensor

from ..hu import Hu
from .online import MetaLearner


class HuLearner(MetaLearner):
    """Raw weights of Hu et al., one an example, 1 at first: `w_i ← max(w_i / decay − r_i, floor)`."""

    settings: Hu

    def step_weights(self, old: Tensor) -> Tensor:
        """The raw weights, scaled: while all are 1, the look-ahead is `lookahead_steps` steps long."""
        return old * (self.settings.lookahead_steps / self.settings.sub_batch)

    def update(self, old: Tensor, response: Tensor) -> Tensor:
        """max(w / decay − r, floor)."""
        return (old / self.settings.decay - response).clamp_min(self.settings.floor)

    def normalise(self, raw: Tensor) -> tuple[Tensor, bool]:
        """n·w / Σw, or n·softmax(w)."""
        floored = bool((raw <= self.settings.floor).all())
        shares = torch.softmax(raw, 0) if self.settings.normalise == "softmax" else raw / raw.sum()
        return len(raw) * shares, floored
