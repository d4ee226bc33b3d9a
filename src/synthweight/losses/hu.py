from dataclasses import dataclass

from ..errors import require
from .base import LearnerContext, WeightLearner
from .meta.settings import MetaLearned


@dataclass
class Hu(MetaLearned):
    """Learned data weighting: `w_i ← max(w_i / decay − r_i, floor)` before every step, normalised.

    Hu, Tan, Salakhutdinov, Xing 2019, "Learning Data Manipulation for Augmentation and Weighting", and their
    code. r_i is ⟨∇L_dev(θ'), δ_i⟩ after a look-ahead θ' = θ + (lookahead_steps / sub_batch)·Σ_j w_j δ_j (see
    `meta.online`): with `lookahead_steps` = `sub_batch`, as in their code, the derivative of L_dev in w_i.
    `exact=true` is their way: δ_i of each example alone, one look-ahead for each `sub_batch` examples.
    `exact=false` makes one look-ahead for a batch and fixes δ_i's denominator at the batch's mean gradient:
    an approximation that needs many steps behind it.

    Args:
        lookahead_steps: the look-ahead's length in steps of the optimizer while every weight is 1.
        decay: divides the weight of the step before.
        floor: lower bound of raw weights.
        normalise: "linear" (w / Σw) or "softmax", times n: weights for the mean.
    """

    lookahead_steps: float
    decay: float
    floor: float
    normalise: str

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.lookahead_steps > 0, "loss.lookahead_steps", "above 0", self.lookahead_steps)
        require(self.decay > 0, "loss.decay", "above 0", self.decay)
        require(self.floor > 0, "loss.floor", "above 0", self.floor)
        require(
            self.normalise in ("linear", "softmax"), "loss.normalise", "linear or softmax", self.normalise
        )

    def learner(self, context: LearnerContext) -> WeightLearner:
        from .meta.hu import HuLearner

        return HuLearner(self, context)
