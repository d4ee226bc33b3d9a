"""What every loss sees, what it returns, and how weights become a scalar."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ..errors import MissingScores

BOUND = 60.0  # |log w| in nats: e^±60 and their sums over a batch are finite in fp32, and far from any real weight


@dataclass
class Scored:
    """One batch, scored: what a strategy may look at.

    index: the examples' positions in the training set. logits: of the model in training mode. nll: −log p̂(y_i|x_i; θ)
    in nats, with gradient. log_quality, log_diversity: log p̂'(y_i|x_i), log q̂(y_i|x_i) of the given label, or None
    where that checker was not run. learned: the weights that a Learner has found for these examples, or None.
    """

    index: Int[Tensor, " batch"]
    logits: Float[Tensor, "batch classes"]
    labels: Int[Tensor, " batch"]
    nll: Float[Tensor, " batch"]
    log_quality: Float[Tensor, " batch"] | None = None
    log_diversity: Float[Tensor, " batch"] | None = None
    learned: Float[Tensor, " batch"] | None = None

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


@dataclass(frozen=True)
class Texts:
    """Tokenised texts with their label positions: `batch` gives the encoder's inputs for a list of positions."""

    batch: Callable[[list[int]], dict[str, Tensor]]
    lengths: np.ndarray
    targets: np.ndarray


@dataclass(frozen=True)
class Task:
    """What a Learner may use of the training that it serves.

    network: the classifier itself, on its device. optimizer: the run's own, with its state. dev: D_P' less what is held
    out; None unless the strategy asks for it. precision: a context that computes as the training does. say: one line of
    progress.
    """

    network: nn.Module
    optimizer: Callable[[], torch.optim.Optimizer]
    train: Texts
    dev: Texts | None
    labels: tuple[str, ...]
    seed: int
    device: torch.device
    precision: Callable[[], AbstractContextManager[Any]]
    say: Callable[[str], None]


@runtime_checkable
class Learner(Protocol):
    """Learns the weights of examples: before the training, or before each of its steps."""

    def before_training(self) -> None:
        """A phase of its own, once, before the first step."""

    def weights(self, batch: dict[str, Tensor]) -> Float[Tensor, " batch"]:
        """The weights of a batch for the mean, before the step that uses them."""
        ...

    def notes(self) -> list[str]:
        """What an epoch's end has to say to the user, each once."""
        ...

    def taken(self) -> dict[str, Any]:
        """What was taken where a setting could not be."""
        ...

    def state_dict(self) -> dict[str, Tensor]:
        """All that a stopped training needs to go on alike."""
        ...

    def load_state_dict(self, state: dict[str, Tensor]) -> None: ...


@dataclass
class Strategy:
    """A loss: the weight of each example for the **mean** over the batch. Its fields are its settings."""

    needs: ClassVar[frozenset[str]] = frozenset()  # of {"quality", "diversity"}

    name: str

    @property
    def dev(self) -> bool:
        """Whether it measures itself by D_P' while it trains."""
        return False

    def learner(self, task: Task) -> Learner | None:
        """What learns its weights, where it learns them."""
        return None

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


@dataclass
class Learned(Strategy):
    """A loss whose weights a Learner finds.

    Raises:
        MissingScores: the batch carries no learned weights.
    """

    def weights(self, scored: Scored) -> Float[Tensor, " batch"]:
        if scored.learned is None:
            raise MissingScores("the batch carries no learned weights: its learner was not run")
        return scored.learned


def widened(logits: Tensor) -> Tensor:
    """Logits narrower than fp32 as fp32; fp64 stays fp64."""
    return logits if logits.dtype == torch.float64 else logits.float()


def cross_entropies(logits: Tensor, labels: Tensor) -> Tensor:
    """−log softmax(logits_i)[y_i] in nats, in at least fp32, [n]."""
    return torch.nn.functional.cross_entropy(widened(logits), labels, reduction="none")


def score(
    index: Int[Tensor, " batch"],
    logits: Float[Tensor, "batch classes"],
    labels: Int[Tensor, " batch"],
    log_quality: Float[Tensor, " batch"] | None = None,
    log_diversity: Float[Tensor, " batch"] | None = None,
    learned: Float[Tensor, " batch"] | None = None,
) -> Scored:
    """nll_i = −log softmax(logits_i)[y_i]. Logits narrower than fp32 are cast to fp32 first; fp64 stays fp64."""
    wide = widened(logits)
    nll = cross_entropies(wide, labels)
    quality, diversity, weights = (None if s is None else s.to(wide.dtype) for s in (log_quality, log_diversity, learned))
    return Scored(index, wide, labels, nll, quality, diversity, weights)


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
