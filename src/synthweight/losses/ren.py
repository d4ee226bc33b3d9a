from dataclasses import dataclass

from .base import LearnerContext, WeightLearner
from .meta.settings import MetaLearned


@dataclass
class Ren(MetaLearned):
    """Learning to reweight: `w_i = max(−r_i, 0)`, normalised, from w = 0 at every step.

    Ren, Zeng, Yang, Urtasun 2018, "Learning to Reweight Examples for Robust Deep Learning". From w = 0 the
    look-ahead stays where it is, so r_i = ⟨∇L_dev(θ), δ_i⟩, which under SGD is −lr·⟨∇L_dev(θ), ∇ℓ_i(θ)⟩
    exactly.
    """

    def learner(self, context: LearnerContext) -> WeightLearner:
        from .meta.ren import RenLearner

        return RenLearner(self, context)
