"""What the epochs of a training leave: metrics, time, weights; and which of them stands."""

import math
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Series:
    """A set of texts that is scored after every epoch."""

    name: str
    targets: np.ndarray
    labels: tuple[str, ...]


@dataclass
class Epoch:
    """What one epoch left: its metrics, the series' log-probabilities, and each training example's mean weight."""

    train_loss: float | None
    metrics: dict[str, dict[str, Any]]
    log_probs: dict[str, np.ndarray]
    weights: np.ndarray


def curves(train_loss: float | None, metrics: dict[str, Any], weights: np.ndarray) -> dict[str, float]:
    """What is drawn of an epoch, by name: the training loss, each series' metrics, the spread of the examples' mean weights.

    Args:
        metrics: by series, as a row has them; a series or a value that there is not is None. weights: [n], or empty.
    """
    drawn = {"train/loss": train_loss}
    for name, found in metrics.items():
        drawn |= {f"{name}/{key}": found[key] for key in ("accuracy", "macro_f1", "nll") if found is not None}
    known = weights[np.isfinite(weights)].astype(np.float64)
    if len(known):
        drawn |= {"weights/mean": known.mean(), "weights/std": known.std(), "weights/max": known.max()}
    return {name: float(value) for name, value in drawn.items() if value is not None}


class Selector:
    """Keeps the epoch with the best accuracy on the selection series; ties go to the earliest. Sees nothing else."""

    def __init__(self) -> None:
        self.best: float = -math.inf
        self.epoch: int | None = None

    def better(self, epoch: int, accuracy: float | None) -> bool:
        """Whether this epoch is the best so far. An accuracy that is not a number never is."""
        if accuracy is None or not accuracy > self.best:
            return False
        self.best, self.epoch = accuracy, epoch
        return True


@dataclass
class Seconds:
    weights: float = 0.0
    train: float = 0.0
    evaluate: float = 0.0
    started: float = field(default_factory=time.perf_counter)

    def lap(self, stage: str) -> None:
        """Adds the time since the last lap to a stage."""
        now = time.perf_counter()
        setattr(self, stage, getattr(self, stage) + now - self.started)
        self.started = now


def sunken(weights: np.ndarray, targets: np.ndarray, labels: tuple[str, ...]) -> list[str]:
    """A line for each class whose mean weight is below a tenth of that of the other classes' examples."""
    out = []
    for c, name in enumerate(labels):
        inside = targets == c
        if inside.any() and not inside.all() and weights[inside].mean() < 0.1 * weights[~inside].mean():
            means = f"{weights[inside].mean():.3g} against {weights[~inside].mean():.3g}"
            out.append(f"class {name!r} has sunk: its mean weight is {means} of the others")
    return out
