"""What a training minimises: the weighted loss of a batch, and the mean weight of each example."""

import math

import numpy as np
import torch
from torch import Tensor, nn

from ..losses import BatchScores, functional
from .job import TrainingJob


class WeightedObjective(nn.Module):
    """The loss of one training: (1/B) Σ_i w_i · nll_i, with the weights of the job's strategy.

    Args:
        job: strategy, weighting, label positions and checkers' scores.
    """

    targets: Tensor
    weight_sum: Tensor
    weight_count: Tensor
    guard_hits: Tensor

    def __init__(self, job: TrainingJob) -> None:
        super().__init__()
        self.strategy, self.weighting = job.strategy, job.weighting
        n = len(job.train[1])
        self.register_buffer("targets", torch.from_numpy(job.train[1]), persistent=False)
        for role in ("quality", "diversity"):
            scores = torch.from_numpy(job.scores[role]) if role in job.scores else None
            self.register_buffer(f"log_{role}", scores, persistent=False)
        self.register_buffer("weight_sum", torch.zeros(n), persistent=False)
        self.register_buffer("weight_count", torch.zeros(n), persistent=False)
        self.register_buffer("guard_hits", torch.zeros((), dtype=torch.int64))
        self.losses: list[Tensor] = []

    def begin_epoch(self) -> None:
        """Forgets the last epoch's losses and weights."""
        self.weight_sum.zero_()
        self.weight_count.zero_()
        self.losses.clear()

    def score(self, index: Tensor, logits: Tensor, learned: Tensor | None = None) -> BatchScores:
        """A batch's logits joined by position with labels, checkers' scores and learned weights.

        Args:
            index: positions in the training set, [batch].
            logits: [batch, classes].
            learned: weights that a learner found for these examples, [batch].
        """
        quality, diversity = (getattr(self, f"log_{role}") for role in ("quality", "diversity"))
        return BatchScores.from_logits(
            index,
            logits,
            self.targets[index],
            None if quality is None else quality[index],
            None if diversity is None else diversity[index],
            learned,
        )

    def forward(self, scores: BatchScores) -> Tensor:
        """The weighted loss of a batch; its weights are added to the epoch's means.

        Nothing waits for the device.
        """
        raw = self.strategy.weights(scores)
        self.guard_hits += functional.guard_hits(raw)
        weights = self.weighting(raw)
        self.weight_sum[scores.index] += weights.detach().to(self.weight_sum.dtype)
        self.weight_count[scores.index] += 1
        loss = functional.weighted_nll(weights, scores.nll)
        self.losses.append(loss.detach())
        return loss

    def count_unselected(self, index: Tensor, chosen: Tensor) -> None:
        """Counts candidates that are not trained on in this step: they weigh 0.

        Args:
            index: the candidates' positions in the training set, [candidates].
            chosen: which of them are trained on; `forward` counts those.
        """
        self.weight_count[index] += 1
        self.weight_count[index[chosen]] -= 1

    def mean_loss(self) -> float:
        """The mean over the epoch's batches; NaN before the first one."""
        return float(torch.stack(self.losses).mean()) if self.losses else math.nan

    def mean_weights(self) -> np.ndarray:
        """Each training example's mean weight in this epoch, [n]."""
        return (self.weight_sum / self.weight_count).cpu().numpy()
