"""The LightningModule: one training_step for every loss, one pass a series and epoch for its metrics."""

import math
import time
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from . import losses, metrics, model
from .checkpoints import random_state, set_random_state
from .epochs import Epoch, Seconds, Selector, Series, curves, sunken
from .errors import UserError
from .parallel import Peers

if TYPE_CHECKING:
    from .configs import Optim


class Classifier(pl.LightningModule):
    """Wraps an encoder with a loss strategy.

    Args:
        network: gives `.logits` of [batch, classes]. strategy: the loss. targets: [n] label positions of the training
            set. weighting: what is done to the strategy's weights. scores: log p of the given label by each checker,
            "quality" and "diversity", [n]. series: scored after every epoch, in the order of the validation loaders.
            select: choose the epoch by the series "selection"; otherwise the last one stands. texts: the training set, and
            D_P' where the strategy asks for it, for those that learn weights.
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
        texts: "tuple[losses.Texts, losses.Texts | None]",
        labels: tuple[str, ...],
        seed: int,
        say: Callable[[str], None],
        peers: Peers,
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
        self.texts, self.labels, self.seed, self.say = texts, labels, seed, say
        self.learner: losses.Learner | None = None
        self.peers = peers
        self.resumed: dict[str, Any] | None = None
        self.random: dict[str, Any] | None = None

    # training -------------------------------------------------------------------------------------------------------

    def score(self, batch: dict[str, Tensor], learned: Tensor | None = None) -> losses.Scored:
        """The batch through the network, joined by position with labels, checkers' scores and learned weights."""
        index = batch["index"]
        logits = self.peers.logits(self.network, model.inputs(batch))
        quality, diversity = (getattr(self, f"log_{name}") for name in ("quality", "diversity"))
        return losses.score(
            index,
            logits,
            self.targets[index],
            None if quality is None else quality[index],
            None if diversity is None else diversity[index],
            learned,
        )

    def training_step(self, batch: dict[str, Tensor], _: int) -> Tensor:
        batch = self.picked(batch)
        scored = self.score(batch, self.learn(batch))
        raw = self.strategy.weights(scored)
        self.hits += losses.guard_hits(raw)
        weights = self.weighting(raw)
        self.keep(scored.index, weights.detach())
        value = losses.reduce(weights, scored)
        self.losses.append(value.detach())
        return value * self.peers.count  # ddp takes the mean of the gradients, where their sum is the batch's

    def learn(self, batch: dict[str, Tensor]) -> Tensor | None:
        """The weights that the strategy's learner has for this batch, if it has one."""
        if self.learner is None:
            return None
        self.seconds.lap("train")
        n = len(batch["index"])  # one process learns: what all see is the same, and nothing is learned twice
        weights = self.learner.weights(batch) if self.peers.rank == 0 else torch.empty(n, device=self.device)
        weights = self.peers.first(weights.to(self.weight_sum.dtype))
        self.seconds.lap("weights")
        return weights

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
        optimizer, schedule = model.optimizer(self.network, self.optim, int(self.trainer.estimated_stepping_batches), self.device)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def configure_gradient_clipping(self, *_: Any, **__: Any) -> None:
        """By hand: Lightning refuses to clip for a fused optimizer, though without a gradient scaler nothing is in the way."""
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.optim.clip_norm)

    def on_train_start(self) -> None:
        self.seconds.started = time.perf_counter()
        self.learner = self.strategy.learner(self.task())
        if self.learner is not None:
            if self.resumed is not None:
                self.learner.load_state_dict(self.resumed)
            if self.peers.rank == 0:
                self.learner.before_training()
            self.seconds.lap("weights")

    def task(self) -> losses.Task:
        """This training, as a learner of weights may see it."""
        optimizer, precision = lambda: self.trainer.optimizers[0], self.trainer.precision_plugin.forward_context
        return losses.Task(self.network, optimizer, *self.texts, self.labels, self.seed, self.device, precision, self.say)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["random"] = self.peers.each(random_state())
        checkpoint["training"] = {
            "epochs": [vars(epoch) for epoch in self.epochs],
            "selector": vars(self.selector),
            "seconds": vars(self.seconds),
            "hits": self.hits,
            "best": self.best_state,
        }
        if self.learner is not None:
            checkpoint["learner"] = self.learner.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        training = checkpoint["training"]
        self.epochs = [Epoch(**epoch) for epoch in training["epochs"]]
        vars(self.selector).update(training["selector"])
        vars(self.seconds).update(training["seconds"])
        self.hits.copy_(training["hits"])
        self.best_state = training["best"]
        self.resumed = checkpoint.get("learner")
        self.random = checkpoint["random"][self.peers.rank]

    def on_train_epoch_start(self) -> None:
        self.weight_sum.zero_()
        self.weight_count.zero_()
        self.losses.clear()
        if self.random is not None:
            set_random_state(self.random)
            iter(self.trainer.train_dataloader or ())  # draws a seed, as an uninterrupted training does here for its next epoch
            self.random = None

    # evaluation -----------------------------------------------------------------------------------------------------

    def on_validation_start(self) -> None:
        model.release_memory()
        self.seconds.lap("train")
        self.outputs = {i: [] for i in range(len(self.series))}

    def validation_step(self, batch: dict[str, Tensor], _: int, dataloader_idx: int = 0) -> None:
        logits = self.peers.logits(self.network, model.inputs(batch)).float()
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
        weights = (self.weight_sum / self.weight_count).cpu().numpy()
        for note in self.notes(weights):
            warnings.warn(f"epoch {number + 1}: {note}", stacklevel=2)
        self.epochs.append(Epoch(metrics.number(mean_loss), found, scored, weights))
        if self.select:
            accuracy = found["selection"]["accuracy"]
            if self.selector.better(number, accuracy) and self.keep_state:
                self.best_state = {k: v.detach().cpu().clone() for k, v in self.network.state_dict().items()}
        self.log_dict(curves(mean_loss, found, weights), sync_dist=self.peers.count > 1)  # the same on all: else Lightning warns
        self.report(number, self.epochs[-1])

    def notes(self, weights: np.ndarray) -> list[str]:
        """What learned weights have to say at an epoch's end."""
        if self.learner is None:
            return []
        return self.learner.notes() + sunken(weights, self.targets.cpu().numpy(), self.labels)

    @property
    def selected(self) -> int:
        """The epoch that stands, from 0: the selector's, or the last one. Raises UserError."""
        if not self.select:
            return len(self.epochs) - 1
        if self.selector.epoch is None:
            raise UserError("no epoch has an accuracy on the selection series: nothing can be chosen")
        return self.selector.epoch
