"""What every loss sees, what it returns, and how weights become a scalar."""

from __future__ import annotations  # settings are read by commands that never compute: torch is not imported for them

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

from ..errors import MissingScores

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    import numpy as np
    import torch
    from jaxtyping import Float, Int
    from torch import Tensor, nn


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


def score(
    index: Int[Tensor, " batch"],
    logits: Float[Tensor, "batch classes"],
    labels: Int[Tensor, " batch"],
    log_quality: Float[Tensor, " batch"] | None = None,
    log_diversity: Float[Tensor, " batch"] | None = None,
    learned: Float[Tensor, " batch"] | None = None,
) -> Scored:
    """One batch as a strategy sees it. Logits narrower than fp32 are cast to fp32 first; fp64 stays fp64."""
    from . import functional

    wide = functional.at_least_fp32(logits)
    nll = functional.nll(wide, labels)
    quality, diversity, weights = (None if s is None else s.to(wide.dtype) for s in (log_quality, log_diversity, learned))
    return Scored(index, wide, labels, nll, quality, diversity, weights)


def reduce(weights: Float[Tensor, " batch"], scored: Scored) -> Float[Tensor, ""]:
    """The weighted mean of a batch's negative log-likelihoods."""
    from . import functional

    return functional.weighted_nll(weights, scored.nll)


def loss(strategy: Strategy, scored: Scored) -> Float[Tensor, ""]:
    """The weighted loss of one batch under a strategy."""
    return reduce(strategy.weights(scored), scored)
