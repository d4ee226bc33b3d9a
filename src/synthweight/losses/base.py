"""What every loss sees, what it returns, and how weights become a scalar."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..errors import MissingScores

BOUND = 60.0  # |log w| in nats: e^±60 and their sums over a batch are finite in fp32, and far from any real weight


@dataclass
class Scored:
    """One batch, scored: what a strategy may look at.

    index: the examples' positions in the training set. logits: of the model in training mode. nll: −log p̂(y_i|x_i; θ)
    in nats, with gradient. log_quality, log_diversity: log p̂'(y_i|x_i), log q̂(y_i|x_i) of the given label, or None
    where that checker was not run.
    """

    index: Int[Tensor, " batch"]
    logits: Float[Tensor, "batch classes"]
    labels: Int[Tensor, " batch"]
    nll: Float[Tensor, " batch"]
    log_quality: Float[Tensor, " batch"] | None = None
    log_diversity: Float[Tensor, " batch"] | None = None

    def quality(self) -> Float[Tensor, " batch"]:
        """log p̂'(y|x). Raises MissingScores."""
        if self.log_quality is None:
            raise MissingScores("the batch carries no log_quality: the quality checker was not run")
        return self.log_quality

    def diversity(self) -> Float[Tensor, " batch"]:
        """log q̂(y|x). Raises MissingScores."""
        if self.log_diversity is None:
            raise MissingScores("the batch carries no log_diversity: the diversity checker was not run")
        return self.log_diversity


@dataclass
class Strategy:
    """A loss: the weight of each example for the **mean** over the batch. Its fields are its settings."""

    needs: ClassVar[frozenset[str]] = frozenset()  # of {"quality", "diversity"}

    name: str

    def weights(self, scored: Scored) -> Float[Tensor, " batch"]:
        raise NotImplementedError  # abstract: OmegaConf's structured nodes cannot be ABCs

    @property
    def candidates(self) -> float:
        """How many examples are drawn for each one trained on: 1 for all but a loss that picks."""
        return 1.0

    def pick(self, scored: Scored) -> Int[Tensor, " picked"]:
        """Which positions of a candidate batch are trained on; asked only where `candidates` is above 1.

        `scored` comes of a forward pass without gradient, in training mode as DIMP's denominator does.
        """
        raise NotImplementedError


def score(
    index: Int[Tensor, " batch"],
    logits: Float[Tensor, "batch classes"],
    labels: Int[Tensor, " batch"],
    log_quality: Float[Tensor, " batch"] | None = None,
    log_diversity: Float[Tensor, " batch"] | None = None,
) -> Scored:
    """nll_i = −log softmax(logits_i)[y_i]. Logits narrower than fp32 are cast to fp32 first; fp64 stays fp64."""
    wide = logits if logits.dtype == torch.float64 else logits.float()
    nll = torch.nn.functional.cross_entropy(wide, labels, reduction="none")
    scores = [None if s is None else s.to(wide.dtype) for s in (log_quality, log_diversity)]
    return Scored(index, wide, labels, nll, scores[0], scores[1])


def bounded_exp(log_weight: Float[Tensor, " batch"]) -> Float[Tensor, " batch"]:
    """w = exp(log w), |log w| ≤ BOUND: a numerical guard, not a clip of the method; the row counts its hits."""
    return log_weight.clamp(-BOUND, BOUND).exp()


def guard_hits(weights: Float[Tensor, " batch"]) -> Int[Tensor, ""]:
    """How many weights lie at the guard's edge. A weight of exactly zero is a choice, not a hit."""
    edge = torch.tensor(BOUND - 1e-3, dtype=weights.dtype, device=weights.device).exp()
    return ((weights > 0) & ((weights >= edge) | (weights <= 1 / edge))).sum()


def reduce(weights: Float[Tensor, " batch"], scored: Scored) -> Float[Tensor, ""]:
    """L = (1/B) Σ_i w_i · nll_i, the only reduction in the project."""
    return (weights * scored.nll).mean()


def loss(strategy: Strategy, scored: Scored) -> Float[Tensor, ""]:
    """The weighted loss of one batch under a strategy."""
    return reduce(strategy.weights(scored), scored)
