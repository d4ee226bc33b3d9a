"""What one training keeps beside its network: the loss of each batch, weights by example, the epochs and the chosen one."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .. import losses, metrics
from ..errors import UserError
from ..losses import functional
from .history import Epoch, Seconds, Selector, Series, curves
from .job import Training


class Ledger(nn.Module):
    """The books of one training, whoever computes its logits.

    Args:
        t: the strategy, what is done to its weights, label positions, the checkers' scores, and the series that are scored
            after every epoch. Where it selects, the epoch is chosen by the series "selection"; otherwise the last stands.
        report: takes each epoch's number, from 0, and results. keep_best: whether this process keeps the chosen epoch's state.
    """

    targets: Tensor
    weight_sum: Tensor
    weight_count: Tensor
    hits: Tensor

    def __init__(self, t: Training, report: Callable[[int, Epoch], None], keep_best: bool = True) -> None:
        super().__init__()
        self.strategy, self.weighting, self.labels = t.strategy, t.weighting, t.labels
        self.select, self.report = t.select, report
        self.keep_best = keep_best and t.select and (t.keep_state or bool(t.final))
        self.series = [Series(name, targets, t.labels) for name, (_, targets) in t.series.items()]
        n = len(t.train[1])
        self.register_buffer("targets", torch.from_numpy(t.train[1]), persistent=False)
        for name in ("quality", "diversity"):
            values = torch.from_numpy(t.scores[name]) if name in t.scores else None
            self.register_buffer(f"log_{name}", values, persistent=False)
        self.register_buffer("weight_sum", torch.zeros(n), persistent=False)
        self.register_buffer("weight_count", torch.zeros(n), persistent=False)
        self.register_buffer("hits", torch.zeros((), dtype=torch.int64), persistent=False)
        self.losses: list[Tensor] = []
        self.outputs: dict[int, list[tuple[np.ndarray, np.ndarray]]] = {}
        self.epochs: list[Epoch] = []
        self.selector = Selector()
        self.best_state: dict[str, Tensor] | None = None
        self.seconds = Seconds()

    # an epoch's steps -----------------------------------------------------------------------------------------------

    def begin_epoch(self) -> None:
        self.weight_sum.zero_()
        self.weight_count.zero_()
        self.losses.clear()

    def score(self, index: Tensor, logits: Tensor, learned: Tensor | None = None) -> losses.BatchScores:
        """A batch's logits, joined by position with labels, checkers' scores and learned weights."""
        quality, diversity = (getattr(self, f"log_{name}") for name in ("quality", "diversity"))
        return losses.BatchScores.from_logits(
            index,
            logits,
            self.targets[index],
            None if quality is None else quality[index],
            None if diversity is None else diversity[index],
            learned,
        )

    def loss(self, scored: losses.BatchScores) -> Tensor:
        """The weighted loss of a batch; keeps its weights."""
        raw = self.strategy.weights(scored)
        self.hits += functional.guard_hits(raw)
        weights = self.weighting(raw)
        self.keep(scored.index, weights.detach())
        value = functional.weighted_nll(weights, scored.nll)
        self.losses.append(value.detach())
        return value

    def keep(self, index: Tensor, weights: Tensor) -> None:
        """Adds this step's weights to the epoch's means; no synchronisation with the device."""
        self.weight_sum[index] += weights.to(self.weight_sum.dtype)
        self.weight_count[index] += 1

    def passed_over(self, index: Tensor, chosen: Tensor) -> None:
        """Counts the candidates that were not picked: they weigh 0 in this step."""
        self.weight_count[index] += 1
        self.weight_count[index[chosen]] -= 1  # `keep` counts them

    # its end --------------------------------------------------------------------------------------------------------

    def begin_evaluation(self) -> None:
        self.seconds.lap("train")
        self.outputs = {i: [] for i in range(len(self.series))}

    def evaluated(self, series: int, index: Tensor, logits: Tensor) -> None:
        """A batch of a series, by its place in `series`."""
        self.outputs[series].append((index.cpu().numpy(), logits.float().log_softmax(-1).cpu().numpy()))

    def end_evaluation(self) -> tuple[dict[str, dict[str, Any]], dict[str, np.ndarray]]:
        """Each series' metrics and log-probabilities."""
        if not self.series:
            self.seconds.lap("train")
        found: dict[str, dict[str, Any]] = {}
        scored: dict[str, np.ndarray] = {}
        for i, series in enumerate(self.series):
            log_probs = np.full((len(series.targets), len(series.labels)), np.nan, dtype=np.float32)
            for index, values in self.outputs[i]:
                log_probs[index] = values
            scored[series.name] = log_probs
            found[series.name] = metrics.evaluate(log_probs, series.targets, series.labels)
        self.outputs.clear()
        self.seconds.lap("evaluate")
        return found, scored

    def end_epoch(
        self, number: int, state: Callable[[], dict[str, Tensor]], note: Callable[[np.ndarray], None] = lambda _: None
    ) -> dict[str, float]:
        """Records the epoch, keeps the network's state if it is the one to go back to, reports; gives the epoch's curves.

        Args:
            state: gives the network's state. note: is told the epoch's weights before it is recorded.

        Raises:
            UserError: the training loss is not a finite number.
        """
        found, scored = self.end_evaluation()
        mean_loss = float(torch.stack(self.losses).mean()) if self.losses else math.nan
        if not math.isfinite(mean_loss):
            raise UserError(f"epoch {number + 1}: the training loss is {mean_loss}: lower optim.lr, or use precision 32")
        weights = (self.weight_sum / self.weight_count).cpu().numpy()
        note(weights)
        self.epochs.append(Epoch(metrics.number(mean_loss), found, scored, weights))
        if self.select:
            accuracy = found["selection"]["accuracy"]
            if self.selector.better(number, accuracy) and self.keep_best:
                self.best_state = {k: v.detach().cpu().clone() for k, v in state().items()}
        self.report(number, self.epochs[-1])
        return curves(mean_loss, found, weights)

    @property
    def selected(self) -> int:
        """The epoch that stands, from 0: the selector's, or the last one. Raises UserError."""
        if not self.select:
            return len(self.epochs) - 1
        if self.selector.epoch is None:
            raise UserError("no epoch has an accuracy on the selection series: nothing can be chosen")
        return self.selector.epoch

    def settle(self, network: nn.Module) -> None:
        """Gives the network the chosen epoch's state where that was kept."""
        if self.best_state is not None and self.selected != len(self.epochs) - 1:
            network.load_state_dict(self.best_state)

    def scored(self, name: str, log_probs: np.ndarray, targets: np.ndarray) -> None:
        """Records a set of texts that the chosen epoch's network alone was evaluated on."""
        epoch = self.epochs[self.selected]
        epoch.log_probs[name] = log_probs
        epoch.metrics[name] = metrics.evaluate(log_probs, targets, self.labels)
        self.seconds.lap("evaluate")

    # going on after a stop ------------------------------------------------------------------------------------------

    def kept(self) -> dict[str, Any]:
        """For a checkpoint at an epoch's end."""
        return {
            "epochs": [vars(epoch) for epoch in self.epochs],
            "selector": vars(self.selector),
            "seconds": vars(self.seconds),
            "hits": self.hits,
            "best": self.best_state,
        }

    def restore(self, training: dict[str, Any]) -> None:
        self.epochs = [Epoch(**epoch) for epoch in training["epochs"]]
        vars(self.selector).update(training["selector"])
        vars(self.seconds).update(training["seconds"])
        self.hits.copy_(training["hits"])
        self.best_state = training["best"]
