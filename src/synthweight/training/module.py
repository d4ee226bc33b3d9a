"""The LightningModule: one training_step for every loss, one pass a series and epoch for its metrics."""

import contextlib
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from .. import losses
from ..models import classifier
from ..models.packed import forward
from . import memory
from .checkpoint import random_state, set_random_state
from .distributed import Peers
from .history import Epoch, sunken
from .job import Training
from .objective import Ledger


class Classifier(pl.LightningModule):
    """Wraps an encoder with a loss strategy.

    Args:
        network: gives `.logits` of [batch, classes]. t: all else that the training is made of. texts: the training set, and
            D_P' where the strategy asks for it, for those that learn weights. report: takes each epoch. say: a line.
    """

    def __init__(
        self,
        network: nn.Module,
        t: Training,
        texts: "tuple[losses.LabelledTexts, losses.LabelledTexts | None]",
        report: Callable[[int, Epoch], None],
        say: Callable[[str], None],
        peers: Peers,
    ) -> None:
        super().__init__()
        self.network, self.strategy, self.optim, self.seed = network, t.strategy, t.optim, t.seed
        self.ledger = Ledger(t, report, keep_best=peers.rank == 0)
        self.texts, self.say, self.peers = texts, say, peers
        self.learner: losses.WeightLearner | None = None
        self.resumed: dict[str, Any] | None = None
        self.random: dict[str, Any] | None = None

    # training -------------------------------------------------------------------------------------------------------

    def score(self, batch: dict[str, Tensor], learned: Tensor | None = None) -> losses.BatchScores:
        """The batch through the network."""
        return self.ledger.score(batch["index"], self.peers.logits(self.network, classifier.inputs(batch)), learned)

    def training_step(self, batch: dict[str, Tensor], _: int) -> Tensor:
        batch = self.picked(batch)
        value = self.ledger.loss(self.score(batch, self.learn(batch)))
        return value * self.peers.count  # ddp takes the mean of the gradients, where their sum is the batch's

    def learn(self, batch: dict[str, Tensor]) -> Tensor | None:
        """The weights that the strategy's learner has for this batch, if it has one."""
        if self.learner is None:
            return None
        seconds, like = self.ledger.seconds, self.ledger.weight_sum
        seconds.lap("train")
        n = len(batch["index"])  # one process learns: what all see is the same, and nothing is learned twice
        weights = self.learner.weights(batch) if self.peers.rank == 0 else torch.empty(n, device=self.device)
        weights = self.peers.first(weights.to(like.dtype))
        seconds.lap("weights")
        return weights

    def picked(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """What the strategy trains on: the batch, or its pick of a candidate batch; the others weigh 0 in this step."""
        if self.strategy.candidates == 1:
            return batch
        with torch.no_grad():
            scored = self.score(batch)
        torch.clear_autocast_cache()  # torch of 2025 keeps weights cast without gradient, and learns nothing (pytorch 158232)
        chosen = self.strategy.pick(scored)
        self.ledger.passed_over(scored.index, chosen)
        return {key: values[chosen.to(values.device)] for key, values in batch.items()}

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """A packed pass moves a batch itself, once its tokens are counted: counting them on a GPU would wait for it."""
        if forward.is_packed(self.network):
            return batch | {"index": batch["index"].to(device, non_blocking=True)}
        return super().transfer_batch_to_device(batch, device, dataloader_idx)

    def configure_optimizers(self) -> Any:
        optimizer, schedule = classifier.optimizer(
            self.network, self.optim, int(self.trainer.estimated_stepping_batches), self.device
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def configure_gradient_clipping(self, optimizer: torch.optim.Optimizer, *_: Any, **__: Any) -> None:
        """By hand: Lightning refuses to clip for a fused optimizer, though without a gradient scaler nothing is in the way."""
        classifier.clip(self.network, optimizer, self.optim.clip_norm)

    def optimizer_zero_grad(self, epoch: int, batch_idx: int, optimizer: torch.optim.Optimizer) -> None:
        graphs = forward.graphs_of(self.network)
        if graphs is None:
            optimizer.zero_grad()
        else:
            graphs.zero_grad()

    def optimizer_step(
        self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Callable[[], Any] | None = None
    ) -> None:
        """By a CUDA graph from the second step on, where the network's passes are graphs."""
        adam: Any = self.trainer.optimizers[0]
        graphs = forward.graphs_of(self.network)
        if graphs is None or not adam.state:
            super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
            return
        assert optimizer_closure is not None
        optimizer_closure()
        if not graphs.step(adam, self.optim.clip_norm):
            classifier.clip(self.network, adam, self.optim.clip_norm)
            adam.step()

    def on_train_batch_end(self, *_: Any, **__: Any) -> None:
        """Lightning would keep the gradients until the next backward pass, beside all that its forward pass keeps."""
        if forward.graphs_of(self.network) is None:
            self.trainer.optimizers[0].zero_grad()

    def on_train_end(self) -> None:
        """Lightning would copy the optimizer's state to the CPU."""
        self.trainer.optimizers[0].state.clear()

    def on_train_start(self) -> None:
        seconds = self.ledger.seconds
        seconds.started = time.perf_counter()
        self.learner = self.strategy.learner(self.task())
        if self.learner is not None:
            if self.resumed is not None:
                self.learner.load_state_dict(self.resumed)
            if self.peers.rank == 0:
                self.learner.before_training()
            seconds.lap("weights")

    def task(self) -> losses.LearnerContext:
        """This training, as a learner of weights may see it."""
        optimizer, precision = lambda: self.trainer.optimizers[0], self.trainer.precision_plugin.forward_context
        labels = self.ledger.labels
        return losses.LearnerContext(self.network, optimizer, *self.texts, labels, self.seed, self.device, precision, self.say)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["random"] = self.peers.each(random_state())
        checkpoint["training"] = self.ledger.kept()
        if self.learner is not None:
            checkpoint["learner"] = self.learner.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.ledger.restore(checkpoint["training"])
        self.resumed = checkpoint.get("learner")
        self.random = checkpoint["random"][self.peers.rank]

    def on_train_epoch_start(self) -> None:
        self.ledger.begin_epoch()
        if self.random is not None:
            set_random_state(self.random)
            iter(self.trainer.train_dataloader or ())  # draws a seed, as an uninterrupted training does here for its next epoch
            self.random = None

    # evaluation -----------------------------------------------------------------------------------------------------

    def on_validation_start(self) -> None:
        memory.release_memory()
        self.ledger.begin_evaluation()

    def validation_step(self, batch: dict[str, Tensor], _: int, dataloader_idx: int = 0) -> None:
        # during fit Lightning asks for no_grad alone: an encoder not known here may keep tensors for its next step
        packed = forward.is_packed(self.network)
        with torch.inference_mode() if packed else contextlib.nullcontext():
            self.ledger.evaluated(dataloader_idx, batch["index"], self.peers.logits(self.network, classifier.inputs(batch)))

    def on_train_epoch_end(self) -> None:
        """After the evaluation, if there is one."""
        memory.release_memory()
        drawn = self.ledger.end_epoch(self.current_epoch, self.network.state_dict, self.note)
        self.log_dict(drawn, sync_dist=self.peers.count > 1)  # the same on all: else Lightning warns

    def note(self, weights: np.ndarray) -> None:
        """Says what learned weights have to say at an epoch's end."""
        if self.learner is None:
            return
        for line in self.learner.epoch_warnings() + sunken(weights, self.ledger.targets.cpu().numpy(), self.ledger.labels):
            warnings.warn(f"epoch {self.current_epoch + 1}: {line}", stacklevel=2)
