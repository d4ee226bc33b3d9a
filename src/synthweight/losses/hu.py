from dataclasses import dataclass

from ..errors import require
from .base import Learner, Task
from .meta.settings import Meta


@dataclass
class Hu(Meta):
    """Learned data weighting: `w_i ← max(w_i / decay − r_i, floor)`, normalised over the batch, before every step.

    Hu, Tan, Salakhutdinov, Xing 2019, "Learning Data Manipulation for Augmentation and Weighting", and their code. r_i is
    ⟨∇L_dev(θ'), δ_i⟩ after a look-ahead θ' = θ + (reach / sub_batch)·Σ_j w_j δ_j (see `online`): with `reach` = `sub_batch`,
    as theirs, the derivative of L_dev in w_i. `reach` is the look-ahead's length in steps of the optimizer while every
    weight is 1. `exact=true` is their way: δ_i of each example alone, one look-ahead for each `sub_batch` examples.
    `exact=false` makes one look-ahead for a batch and holds δ_i's denominator at the batch's mean gradient: an
    approximation that needs many steps behind it. `normalise`: linear (w / Σw) or softmax, times n: weights for the mean.
    """

    reach: float
    decay: float
    floor: float
    normalise: str

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.reach > 0, "loss.reach", "above 0", self.reach)
        require(self.decay > 0, "loss.decay", "above 0", self.decay)
        require(self.floor > 0, "loss.floor", "above 0", self.floor)
        require(self.normalise in ("linear", "softmax"), "loss.normalise", "linear or softmax", self.normalise)

    def learner(self, task: Task) -> Learner:
        from .meta.hu import HuLearner

        return HuLearner(self, task)
