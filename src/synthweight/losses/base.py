"""What a loss sees of a batch, what it returns, and what a learner of weights may use."""

# settings are read by commands that never compute: torch is not imported for them
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from ..errors import MissingScoresError

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    import numpy as np
    import torch
    from jaxtyping import Float, Int
    from torch import Tensor, nn


@dataclass
class BatchScores:
    """The scores of one batch: everything that a loss may compute weights from.

    Args:
        index: the examples' positions in the training set.
        logits: of the model in training mode, at least fp32.
        labels: class indices.
        nll: −log p̂(y_i|x_i; θ) in nats, with gradient.
        log_quality: log p̂'(y_i|x_i) of the given label; None where the quality checker was not run.
        log_diversity: log q̂(y_i|x_i) of the given label; None where the diversity checker was not run.
        learned: the weights that a `WeightLearner` has for these examples, or None.
    """

    index: Int[Tensor, " batch"]
    logits: Float[Tensor, "batch classes"]
    labels: Int[Tensor, " batch"]
    nll: Float[Tensor, " batch"]
    log_quality: Float[Tensor, " batch"] | None = None
    log_diversity: Float[Tensor, " batch"] | None = None
    learned: Float[Tensor, " batch"] | None = None

    @classmethod
    def from_logits(
        cls,
        index: Int[Tensor, " batch"],
        logits: Float[Tensor, "batch classes"],
        labels: Int[Tensor, " batch"],
        log_quality: Float[Tensor, " batch"] | None = None,
        log_diversity: Float[Tensor, " batch"] | None = None,
        learned: Float[Tensor, " batch"] | None = None,
    ) -> BatchScores:
        """The scores of a batch from the model's logits, all in the logits' type but at least fp32.

        Args:
            index: the examples' positions in the training set.
            logits: of the model; narrower than fp32 they are cast to fp32 first.
            labels: class indices.
            log_quality: log p̂'(y_i|x_i), or None.
            log_diversity: log q̂(y_i|x_i), or None.
            learned: learned weights, or None.
        """
        from . import functional

        wide = functional.at_least_fp32(logits)
        others = (None if s is None else s.to(wide.dtype) for s in (log_quality, log_diversity, learned))
        return cls(index, wide, labels, functional.nll(wide, labels), *others)

    def quality(self) -> Float[Tensor, " batch"]:
        """log p̂'(y|x). Raises MissingScoresError where the quality checker was not run."""
        if self.log_quality is None:
            raise MissingScoresError("the batch carries no log_quality: the quality checker was not run")
        return self.log_quality

    def diversity(self) -> Float[Tensor, " batch"]:
        """log q̂(y|x). Raises MissingScoresError where the diversity checker was not run."""
        if self.log_diversity is None:
            raise MissingScoresError("the batch carries no log_diversity: the diversity checker was not run")
        return self.log_diversity


@dataclass(frozen=True)
class LabelledTexts:
    """Tokenized texts with their labels.

    Args:
        batch: gives the encoder's inputs for a list of positions.
        lengths: tokens of each text, [n].
        targets: class index of each text, [n].
    """

    batch: Callable[[list[int]], dict[str, Tensor]]
    lengths: np.ndarray
    targets: np.ndarray


@dataclass(frozen=True)
class LearnerContext:
    """What a `WeightLearner` may use of the training that it serves.

    Args:
        network: the classifier itself, on its device.
        optimizer: gives the run's own optimizer, with its state.
        train: the training set.
        dev: D_P' without what is held out; None unless the loss asks for it.
        labels: class names, sorted.
        seed: of the run.
        device: that the training runs on.
        precision: gives a context that computes in the training's precision.
        log: takes a line of progress.
    """

    network: nn.Module
    optimizer: Callable[[], torch.optim.Optimizer]
    train: LabelledTexts
    dev: LabelledTexts | None
    labels: tuple[str, ...]
    seed: int
    device: torch.device
    precision: Callable[[], AbstractContextManager[Any]]
    log: Callable[[str], None]


class WeightLearner(Protocol):
    """Learns the weights of examples: before the training, or before each of its steps."""

    def before_training(self) -> None:
        """A phase of its own, once, before the first step."""

    def weights(self, batch: dict[str, Tensor]) -> Float[Tensor, " batch"]:
        """The weights of a batch for the mean, before the step that uses them."""
        ...

    def epoch_warnings(self) -> list[str]:
        """What the user should know at the end of an epoch, a line each."""
        ...

    def fallbacks(self) -> dict[str, Any]:
        """What was used instead of a setting, by the setting's name."""
        ...

    def state_dict(self) -> dict[str, Tensor]:
        """All that a stopped training needs to continue with the same numbers."""
        ...

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Continues from a state."""
        ...


@dataclass
class WeightedLoss:
    """A loss: the weight of each example for the **mean** over the batch. Its fields are its settings.

    Args:
        name: of the loss, as in `loss=`.
    """

    needs: ClassVar[frozenset[str]] = frozenset()  # of {"quality", "diversity"}

    name: str

    @property
    def dev(self) -> bool:
        """Whether it learns from D_P' while it trains."""
        return False

    def learner(self, context: LearnerContext) -> WeightLearner | None:
        """The learner of its weights, or None where they are computed from a batch's scores."""
        return None

    def weights(self, scores: BatchScores) -> Float[Tensor, " batch"]:
        """The weights of a batch for the mean."""
        raise NotImplementedError  # abstract: OmegaConf's structured nodes cannot be ABCs

    @property
    def candidates(self) -> float:
        """How many examples are drawn for each one that is trained on: 1 for all losses that do not select."""
        return 1.0

    def pick(self, scores: BatchScores) -> Int[Tensor, " picked"]:
        """Which positions of a candidate batch are trained on. Called only where `candidates` is above 1.

        Args:
            scores: of a forward pass without gradient, in training mode as for DIMP's denominator.
        """
        raise NotImplementedError


@dataclass
class LearnedLoss(WeightedLoss):
    """A loss whose weights a `WeightLearner` finds.

    Raises:
        MissingScoresError: the batch carries no learned weights.
    """

    def weights(self, scores: BatchScores) -> Float[Tensor, " batch"]:
        """The learned weights."""
        if scores.learned is None:
            raise MissingScoresError("the batch carries no learned weights: its learner was not run")
        return scores.learned
