from dataclasses import dataclass

from ..errors import require
from .base import LearnedLoss, LearnerContext, WeightLearner


@dataclass
class Sungen(LearnedLoss):
    """Self-guided noise-free data generation: `w_i = σ(u_i)`, learned before the training, without real data.

    Gao et al. 2023, "Self-Guided Noise-Free Data Generation for Efficient Zero-Shot Learning", and their
    code: from the same start a proxy is trained for one epoch with mean(w_i ℓ_i); its reverse cross-entropy
    on the synthetic data, whose minimiser does not change under symmetric label noise, gives one truncated
    hypergradient step on u. 0 ≤ w ≤ 1.

    Args:
        proxy: the model that is trained again and again: "lstm", "head" (two layers on frozen features) or
            "encoder".
        hidden: width of lstm and head.
        inner_lr: learning rate of the proxy.
        inner_batch: batch size of the proxy.
        outer_steps: steps on u.
        outer_lr: learning rate of u, under Adam.
        outer_eps: Adam's ε for u.
        outer_clip: bound on the norm of u's gradient.
        outer: the outer loss: "rce" (reverse cross-entropy on D_Q) or "dev" (cross-entropy on D_P').
        subset: examples that enter the outer loss, at most.
        batch: examples of one outer pass.
        keep: only this share of the highest weights enters the outer loss.
        keep_per_class: take that share within each class.
        label_logit: ỹ = softmax(label_logit · onehot(y)) in the reverse cross-entropy.
    """

    proxy: str
    hidden: int
    inner_lr: float
    inner_batch: int
    outer_steps: int
    outer_lr: float
    outer_eps: float
    outer_clip: float
    outer: str
    subset: int
    batch: int
    keep: float
    keep_per_class: bool
    label_logit: float

    def __post_init__(self) -> None:
        require(self.proxy in ("lstm", "head", "encoder"), "loss.proxy", "lstm, head or encoder", self.proxy)
        require(self.outer in ("rce", "dev"), "loss.outer", "rce or dev", self.outer)
        for key in ("hidden", "inner_batch", "outer_steps", "subset", "batch"):
            require(getattr(self, key) >= 1, f"loss.{key}", "at least 1", getattr(self, key))
        for key in ("inner_lr", "outer_lr", "outer_eps", "outer_clip", "label_logit"):
            require(getattr(self, key) > 0, f"loss.{key}", "above 0", getattr(self, key))
        require(0 < self.keep <= 1, "loss.keep", "a share, above 0 and at most 1", self.keep)

    @property
    def dev(self) -> bool:
        """Whether the outer loss is on D_P'."""
        return self.outer == "dev"

    def learner(self, context: LearnerContext) -> WeightLearner:
        from .meta.sungen import SungenLearner

        return SungenLearner(self, context)
