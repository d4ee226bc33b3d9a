from dataclasses import dataclass

import torch
from torch import Tensor

from .base import Task
from .meta.online import Meta, Online


@dataclass
class Ren(Meta):
    """Learning to reweight: `w_i = max(−r_i, 0)`, normalised over the batch, from w = 0 at every step, without memory.

    Ren, Zeng, Yang, Urtasun 2018, "Learning to Reweight Examples for Robust Deep Learning". From w = 0 the look-ahead
    stays where it is, so r_i = ⟨∇L_dev(θ), δ_i⟩, which under SGD is −lr·⟨∇L_dev(θ), ∇ℓ_i(θ)⟩ exactly.
    """

    def learner(self, task: Task) -> "RenLearner":
        return RenLearner(self, task)


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
