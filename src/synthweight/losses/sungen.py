from dataclasses import dataclass

from ..errors import require
from .base import Learned, Learner, Task


@dataclass
class Sungen(Learned):
    """Self-guided noise-free data generation: `w_i = σ(u_i)`, learned before the training, without real data.

    Gao et al. 2023, "Self-Guided Noise-Free Data Generation for Efficient Zero-Shot Learning", and their code: from the
    same start a proxy is trained for one epoch with mean(w_i ℓ_i); its reverse cross-entropy on the synthetic data, a
    loss whose minimiser symmetric label noise leaves alone, gives one truncated hypergradient step on u. `outer=dev`
    takes cross-entropy on D_P' instead. 0 ≤ w ≤ 1.
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
        return self.outer == "dev"

    def learner(self, task: Task) -> Learner:
        from .meta.sungen import SungenLearner

        return SungenLearner(self, task)
