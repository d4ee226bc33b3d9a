"""The epochs of a training: their evaluation, the selected one and its state, and the time spent."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from .. import metrics
from ..errors import UserError

if TYPE_CHECKING:
    from .job import TrainingJob


@dataclass
class Epoch:
    """What one epoch leaves.

    Args:
        train_loss: the mean over its batches.
        metrics: by series, as a row has them.
        log_probs: by series, [n, classes].
        weights: each training example's mean weight, [n].
    """

    train_loss: float | None
    metrics: dict[str, dict[str, Any]]
    log_probs: dict[str, np.ndarray]
    weights: np.ndarray


def epoch_scalars(train_loss: float | None, metrics: dict[str, Any], weights: np.ndarray) -> dict[str, float]:
    """The scalars of an epoch, by name: training loss, metrics of each series, spread of the weights.

    Args:
        train_loss: None where it is not finite.
        metrics: by series; a series without any is None, and so is a value that is not finite.
        weights: [n], or empty.
    """
    scalars = {"train/loss": train_loss}
    for name, values in metrics.items():
        scalars |= {
            f"{name}/{key}": values[key] for key in ("accuracy", "macro_f1", "nll") if values is not None
        }
    known = weights[np.isfinite(weights)].astype(np.float64)
    if len(known):
        scalars |= {"weights/mean": known.mean(), "weights/std": known.std(), "weights/max": known.max()}
    return {name: float(value) for name, value in scalars.items() if value is not None}


def collapsed_classes(weights: np.ndarray, targets: np.ndarray, labels: tuple[str, ...]) -> list[str]:
    """A line for each class whose mean weight is below a tenth of that of the other classes' examples.

    Args:
        weights: each example's, [n].
        targets: label positions, [n].
        labels: the classes' names.
    """
    out = []
    for c, name in enumerate(labels):
        inside = targets == c
        if inside.any() and not inside.all() and weights[inside].mean() < 0.1 * weights[~inside].mean():
            means = f"{weights[inside].mean():.3g} against {weights[~inside].mean():.3g} of the others"
            out.append(f"class {name!r} is down-weighted: its mean weight is {means}")
    return out


@dataclass
class EpochSelector:
    """Remembers the epoch with the best accuracy; ties go to the earliest.

    Args:
        best: the best accuracy so far.
        epoch: which had it, from 0; None before the first.
    """

    best: float = -math.inf
    epoch: int | None = None

    def improves(self, epoch: int, accuracy: float | None) -> bool:
        """Whether this epoch is the best so far. An accuracy that is not a number never is.

        Args:
            epoch: from 0.
            accuracy: on the selection series; None or NaN where it is not known.
        """
        if accuracy is None or not accuracy > self.best:
            return False
        self.best, self.epoch = accuracy, epoch
        return True


@dataclass
class StageSeconds:
    """Seconds spent on learning weights, on training and on evaluation.

    Args:
        weights: spent on learning weights.
        train: on steps.
        evaluate: on evaluation.
        last: when the last lap ended, by `perf_counter`.
    """

    weights: float = 0.0
    train: float = 0.0
    evaluate: float = 0.0
    last: float = field(default_factory=time.perf_counter)

    def restart(self) -> None:
        """Leaves out the time since the last lap."""
        self.last = time.perf_counter()

    def lap(self, stage: str) -> None:
        """Adds the time since the last lap to a stage."""
        now = time.perf_counter()
        setattr(self, stage, getattr(self, stage) + now - self.last)
        self.last = now


class TrainingHistory:
    """Collects the evaluation of each epoch and keeps what the selected one needs.

    With `job.select` the epoch is selected by the accuracy on the series "selection", otherwise the last one
    is.

    Args:
        job: its series, its labels, and whether the selected epoch's network is needed.
        keep_best: whether this process keeps the state of the best epoch; only one of a distributed training
            does.
    """

    def __init__(self, job: "TrainingJob", keep_best: bool = True) -> None:
        self.labels, self.select = job.labels, job.select
        self.keep_best = keep_best and job.select and (job.keep_state or bool(job.final))
        self.targets = {name: targets for name, (_, targets) in job.series.items()}
        self.outputs: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {}
        self.epochs: list[Epoch] = []
        self.selector = EpochSelector()
        self.best_state: dict[str, Tensor] | None = None
        self.seconds = StageSeconds()

    def begin_evaluation(self) -> None:
        """Before the series are evaluated."""
        self.seconds.lap("train")
        self.outputs = {name: [] for name in self.targets}

    def add_logits(self, series: int, index: Tensor, logits: Tensor) -> None:
        """Adds a batch of the series at this position in the job.

        Args:
            series: its position in the job.
            index: positions of the examples in the series, [batch].
            logits: [batch, classes].
        """
        name = list(self.targets)[series]
        self.outputs[name].append((index.cpu().numpy(), logits.float().log_softmax(-1).cpu().numpy()))

    def end_epoch(
        self, train_loss: float, weights: np.ndarray, state: Callable[[], dict[str, Tensor]]
    ) -> Epoch:
        """Records an epoch, after the evaluation of its series if there are any.

        Args:
            train_loss: the mean over the epoch's batches.
            weights: each training example's mean weight, [n].
            state: gives the network's state, of which a copy is kept where the epoch is the best so far.

        Raises:
            UserError: the training loss is not a finite number.
        """
        number = len(self.epochs)
        if not math.isfinite(train_loss):
            raise UserError(
                f"epoch {number + 1}: the training loss is {train_loss}: lower optim.lr, or use trainer.precision=32"
            )
        epoch = Epoch(train_loss, {}, {}, weights)
        for name, batches in self.outputs.items():
            log_probs = np.full((len(self.targets[name]), len(self.labels)), np.nan, dtype=np.float32)
            for index, values in batches:
                log_probs[index] = values
            epoch.log_probs[name] = log_probs
            epoch.metrics[name] = metrics.evaluate(log_probs, self.targets[name], self.labels)
        self.seconds.lap("evaluate" if self.outputs else "train")
        self.outputs = {}
        self.epochs.append(epoch)
        if (
            self.select
            and self.selector.improves(number, epoch.metrics["selection"]["accuracy"])
            and self.keep_best
        ):
            self.best_state = {name: value.detach().cpu().clone() for name, value in state().items()}
        return epoch

    @property
    def selected(self) -> int:
        """The selected epoch, from 0. Raises UserError where no epoch has an accuracy to be selected by."""
        if not self.select:
            return len(self.epochs) - 1
        if self.selector.epoch is None:
            raise UserError("no epoch has an accuracy on the selection series: none can be selected")
        return self.selector.epoch

    def load_best(self, network: nn.Module) -> None:
        """Gives the network the selected epoch's state where that was kept."""
        if self.best_state is not None and self.selected != len(self.epochs) - 1:
            network.load_state_dict(self.best_state)

    def add_final(self, name: str, log_probs: np.ndarray, targets: np.ndarray) -> None:
        """Records a series that only the selected epoch's network was evaluated on.

        Args:
            name: of the series.
            log_probs: [n, classes].
            targets: label positions, [n].
        """
        epoch = self.epochs[self.selected]
        epoch.log_probs[name] = log_probs
        epoch.metrics[name] = metrics.evaluate(log_probs, targets, self.labels)
        self.seconds.lap("evaluate")

    def state_dict(self) -> dict[str, Any]:
        """For a checkpoint at the end of an epoch: numbers, strings and tensors."""
        return {
            "epochs": [
                vars(epoch)
                | {"log_probs": {name: torch.from_numpy(values) for name, values in epoch.log_probs.items()}}
                | {"weights": torch.from_numpy(epoch.weights)}
                for epoch in self.epochs
            ],
            "selector": vars(self.selector),
            "seconds": vars(self.seconds),
            "best_state": self.best_state,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continues where `state_dict` was taken."""
        self.epochs = [
            Epoch(
                epoch["train_loss"],
                epoch["metrics"],
                {name: values.numpy() for name, values in epoch["log_probs"].items()},
                epoch["weights"].numpy(),
            )
            for epoch in state["epochs"]
        ]
        self.selector = EpochSelector(**state["selector"])
        self.seconds = StageSeconds(**state["seconds"])
        self.best_state = state["best_state"]
