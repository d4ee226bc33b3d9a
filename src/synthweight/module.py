"""The LightningModule: one training_step for every loss, one pass a series and epoch for its metrics."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from . import losses, metrics, model
from .errors import UserError

if TYPE_CHECKING:
    from .configs import Optim


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
    train: float = 0.0
    evaluate: float = 0.0
    started: float = field(default_factory=time.perf_counter)

    def lap(self, stage: str) -> None:
        """Adds the time since the last lap to a stage."""
        now = time.perf_counter()
        setattr(self, stage, getattr(self, stage) + now - self.started)
        self.started = now


class Classifier(pl.LightningModule):
    """Wraps an encoder with a loss strategy.

    Args:
        network: gives `.logits` of [batch, classes]. strategy: the loss. targets: [n] label positions of the training
            set. weighting: what is done to the strategy's weights. scores: log p of the given label by each checker,
            "quality" and "diversity", [n]. series: scored after every epoch, in the order of the validation loaders.
            select: choose the epoch by the series "selection"; otherwise the last one stands.
    """

    targets: Tensor
    weight_sum: Tensor
    weight_count: Tensor
    hits: Tensor

    def __init__(
        self,
        network: nn.Module,
        strategy: losses.Strategy,
        weighting: losses.Weighting,
        optim: "Optim",
        targets: np.ndarray,
        scores: dict[str, np.ndarray],
        series: list[Series],
        select: bool,
        keep_state: bool,
        report: Callable[[int, Epoch], None],
    ) -> None:
        super().__init__()
        self.network, self.strategy, self.weighting, self.optim = network, strategy, weighting, optim
        self.series, self.select, self.keep_state, self.report = series, select, keep_state, report
        self.register_buffer("targets", torch.from_numpy(targets), persistent=False)
        for name in ("quality", "diversity"):
            values = torch.from_numpy(scores[name]) if name in scores else None
            self.register_buffer(f"log_{name}", values, persistent=False)
        n = len(targets)
        self.register_buffer("weight_sum", torch.zeros(n), persistent=False)
        self.register_buffer("weight_count", torch.zeros(n), persistent=False)
        self.register_buffer("hits", torch.zeros((), dtype=torch.int64), persistent=False)
        self.losses: list[Tensor] = []
        self.outputs: dict[int, list[tuple[np.ndarray, np.ndarray]]] = {}
        self.epochs: list[Epoch] = []
        self.selector = Selector()
        self.best_state: dict[str, Tensor] | None = None
        self.seconds = Seconds()

    # training -------------------------------------------------------------------------------------------------------

    def score(self, batch: dict[str, Tensor]) -> losses.Scored:
        """The batch through the network, joined by position with labels and checkers' scores."""
        index = batch["index"]
        logits = self.network(**model.inputs(batch)).logits
        quality, diversity = (getattr(self, f"log_{name}") for name in ("quality", "diversity"))
        return losses.score(
            index,
            logits,
            self.targets[index],
            None if quality is None else quality[index],
            None if diversity is None else diversity[index],
        )

    def training_step(self, batch: dict[str, Tensor], _: int) -> Tensor:
        scored = self.score(self.picked(batch))
        raw = self.strategy.weights(scored)
        self.hits += losses.guard_hits(raw)
        weights = self.weighting(raw)
        self.keep(scored.index, weights.detach())
        value = losses.reduce(weights, scored)
        self.losses.append(value.detach())
        return value

    def picked(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """What the strategy trains on: the batch, or its pick of a candidate batch; the others weigh 0 in this step."""
        if self.strategy.candidates == 1:
            return batch
        with torch.no_grad():
            scored = self.score(batch)
        torch.clear_autocast_cache()  # torch of 2025 keeps weights cast without gradient, and learns nothing (pytorch 158232)
        chosen = self.strategy.pick(scored)
        self.weight_count[scored.index] += 1
        self.weight_count[scored.index[chosen]] -= 1  # `keep` counts them
        return {key: values[chosen] for key, values in batch.items()}

    def keep(self, index: Tensor, weights: Tensor) -> None:
        """Adds this step's weights to the epoch's means; no synchronisation with the device."""
        self.weight_sum[index] += weights.to(self.weight_sum.dtype)
        self.weight_count[index] += 1

    def configure_optimizers(self) -> Any:
        from transformers import get_scheduler

        o = self.optim
        decayed = [p for name, p in self.network.named_parameters() if p.ndim > 1]
        plain = [p for name, p in self.network.named_parameters() if p.ndim <= 1]  # biases and LayerNorms
        groups = [{"params": decayed, "weight_decay": o.weight_decay}, {"params": plain, "weight_decay": 0.0}]
        fused = self.device.type in ("cpu", "cuda")
        optimizer = torch.optim.AdamW(groups, lr=o.lr, fused=fused)
        steps = int(self.trainer.estimated_stepping_batches)
        kind = "constant_with_warmup" if o.schedule == "constant" else o.schedule
        schedule = get_scheduler(kind, optimizer, num_warmup_steps=round(o.warmup * steps), num_training_steps=steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def configure_gradient_clipping(self, *_: Any, **__: Any) -> None:
        """By hand: Lightning refuses to clip for a fused optimizer, though without a gradient scaler nothing is in the way."""
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.optim.clip_norm)

    def on_fit_start(self) -> None:
        self.seconds.started = time.perf_counter()

    def on_train_epoch_start(self) -> None:
        self.weight_sum.zero_()
        self.weight_count.zero_()
        self.losses.clear()

    # evaluation -----------------------------------------------------------------------------------------------------

    def on_validation_start(self) -> None:
        model.release_memory()
        self.seconds.lap("train")
        self.outputs = {i: [] for i in range(len(self.series))}

    def validation_step(self, batch: dict[str, Tensor], _: int, dataloader_idx: int = 0) -> None:
        logits = self.network(**model.inputs(batch)).logits.float()
        self.outputs[dataloader_idx].append((batch["index"].cpu().numpy(), logits.log_softmax(-1).cpu().numpy()))

    def on_validation_epoch_end(self) -> None:
        found: dict[str, dict[str, Any]] = {}
        scored: dict[str, np.ndarray] = {}
        for i, series in enumerate(self.series):
            log_probs = np.full((len(series.targets), len(series.labels)), np.nan, dtype=np.float32)
            for index, values in self.outputs[i]:
                log_probs[index] = values
            scored[series.name] = log_probs
            found[series.name] = metrics.evaluate(log_probs, series.targets, series.labels)
        self.outputs.clear()
        model.release_memory()
        self.seconds.lap("evaluate")
        self.finish_epoch(found, scored)

    def finish_epoch(self, found: dict[str, dict[str, Any]], scored: dict[str, np.ndarray]) -> None:
        """Records the epoch and keeps the weights of the network if it is the one to go back to.

        Raises:
            UserError: the training loss is not a finite number.
        """
        number = self.current_epoch
        mean_loss = float(torch.stack(self.losses).mean()) if self.losses else math.nan
        if not math.isfinite(mean_loss):
            raise UserError(f"epoch {number + 1}: the training loss is {mean_loss}: lower optim.lr, or use precision 32")
        weights = (self.weight_sum / self.weight_count).float().cpu().numpy()
        self.epochs.append(Epoch(metrics.number(mean_loss), found, scored, weights))
        if self.select:
            accuracy = found["selection"]["accuracy"]
            if self.selector.better(number, accuracy) and self.keep_state:
                self.best_state = {k: v.detach().cpu().clone() for k, v in self.network.state_dict().items()}
        self.log_dict(
            {
                f"{name}/{key}": m[key]
                for name, m in found.items()
                for key in ("accuracy", "macro_f1", "nll")
                if m[key] is not None
            }
            | {"train/loss": mean_loss},
        )
        self.report(number, self.epochs[-1])

    @property
    def selected(self) -> int:
        """The epoch that stands, from 0: the selector's, or the last one. Raises UserError."""
        if not self.select:
            return len(self.epochs) - 1
        if self.selector.epoch is None:
            raise UserError("no epoch has an accuracy on the selection series: nothing can be chosen")
        return self.selector.epoch
