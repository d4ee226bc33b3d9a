"""The LightningModule: one training step for every loss, one evaluation pass per series and epoch."""

import contextlib
import logging
from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from ..losses import BatchScores, LabelledTexts, LearnerContext, WeightLearner
from ..models import classifier, optim
from ..models.packed import forward
from .checkpoint import random_state, set_random_state
from .distributed import DistributedContext
from .history import TrainingHistory, collapsed_classes, epoch_scalars
from .job import TokenizedSplit, TrainingJob
from .memory import release_memory
from .objective import WeightedObjective
from .reporter import RunReporter


class ClassifierModule(pl.LightningModule):
    """Trains a classifier on a weighted objective.

    Args:
        network: gives `.logits` of [batch, classes].
        job: all else that the training is made of, by the token ids that the network knows.
        context: the processes that train it.
        reporter: is told each epoch.
    """

    def __init__(
        self, network: nn.Module, job: TrainingJob, context: DistributedContext, reporter: RunReporter
    ) -> None:
        super().__init__()
        self.network, self.job, self.context, self.reporter = network, job, context, reporter
        self.strategy = job.strategy
        self.objective = WeightedObjective(job)
        self.history = TrainingHistory(job, keep_best=context.rank == 0)
        self.learner: WeightLearner | None = None
        self.resumed_learner: dict[str, Any] | None = None
        self.resumed_random: dict[str, Any] | None = None

    # training

    def score(self, batch: dict[str, Tensor], learned: Tensor | None = None) -> BatchScores:
        """The batch through the network."""
        logits = self.context.gather_logits(self.network, classifier.inputs(batch))
        return self.objective.score(batch["index"], logits, learned)

    def training_step(self, batch: dict[str, Tensor], _: int) -> Tensor:
        batch = self.select_candidates(batch)
        loss = self.objective(self.score(batch, self.learned_weights(batch)))
        # DDP takes the mean of the gradients, where their sum is the batch's
        return loss * self.context.world_size

    def learned_weights(self, batch: dict[str, Tensor]) -> Tensor | None:
        """The weights that the strategy's learner gives this batch, [batch], if it has one."""
        if self.learner is None:
            return None
        seconds, like = self.history.seconds, self.objective.weight_sum
        seconds.lap("train")
        n = len(batch["index"])  # one process learns: all see the same, and nothing is learned twice
        weights = (
            self.learner.weights(batch) if self.context.rank == 0 else torch.empty(n, device=self.device)
        )
        weights = self.context.broadcast(weights.to(like.dtype))
        seconds.lap("weights")
        return weights

    def select_candidates(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """What the strategy trains on: the batch, or its pick of the candidates; the others weigh 0."""
        if self.strategy.candidates == 1:
            return batch
        with torch.no_grad():
            scores = self.score(batch)
        # of weights cast without gradient, by which nothing is learned (pytorch 158232)
        torch.clear_autocast_cache()
        chosen = self.strategy.pick(scores)
        self.objective.count_unselected(scores.index, chosen)
        return {key: values[chosen.to(values.device)] for key, values in batch.items()}

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Leaves a batch to a packed pass, which moves it once its tokens are counted.

        Counting them on a GPU would wait for it.
        """
        if forward.is_packed(self.network):
            return batch | {"index": batch["index"].to(device, non_blocking=True)}
        return super().transfer_batch_to_device(batch, device, dataloader_idx)

    def configure_optimizers(self) -> Any:
        steps = int(self.trainer.estimated_stepping_batches)
        optimizer, schedule = optim.optimizer(self.network, self.job.optim, steps, self.device)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def configure_gradient_clipping(self, optimizer: torch.optim.Optimizer, *_: Any, **__: Any) -> None:
        """Clips by hand: Lightning refuses to for a fused optimizer, even without a gradient scaler."""
        optim.clip(self.network, optimizer, self.job.optim.clip_norm)

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
        if not graphs.step(adam, self.job.optim.clip_norm):
            optim.clip(self.network, adam, self.job.optim.clip_norm)
            adam.step()

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Drops the gradients, which Lightning would keep until the next backward pass."""
        self.reporter.step_finished(batch_idx + 1)
        if forward.graphs_of(self.network) is None:
            self.trainer.optimizers[0].zero_grad()

    def on_train_end(self) -> None:
        """Lightning would copy the optimizer's state to the CPU."""
        self.trainer.optimizers[0].state.clear()

    def on_train_start(self) -> None:
        self.history.seconds.restart()
        self.learner = self.strategy.learner(self.learner_context())
        if self.learner is not None:
            if self.resumed_learner is not None:
                self.learner.load_state_dict(self.resumed_learner)
            if self.context.rank == 0:
                self.learner.before_training()
            self.history.seconds.lap("weights")

    def learner_context(self) -> LearnerContext:
        """This training, as a learner of weights may see it."""
        return LearnerContext(
            self.network,
            lambda: self.trainer.optimizers[0],
            labelled_texts(self.job.train),
            None if self.job.dev is None else labelled_texts(self.job.dev),
            self.job.labels,
            self.job.seed,
            self.device,
            self.trainer.precision_plugin.forward_context,
            self.reporter.log,
        )

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["random"] = self.context.all_gather_object(random_state())
        checkpoint["history"] = self.history.state_dict()
        if self.learner is not None:
            checkpoint["learner"] = self.learner.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.history.load_state_dict(checkpoint["history"])
        self.resumed_learner = checkpoint.get("learner")
        self.resumed_random = checkpoint["random"][self.context.rank]

    def on_train_epoch_start(self) -> None:
        self.reporter.epoch_started(
            self.current_epoch + 1, self.job.epochs, int(self.trainer.num_training_batches)
        )
        self.objective.begin_epoch()
        if self.resumed_random is not None:
            set_random_state(self.resumed_random)
            # draws a seed, as an uninterrupted training does before its next epoch
            iter(self.trainer.train_dataloader or ())
            self.resumed_random = None

    # evaluation

    def on_validation_start(self) -> None:
        release_memory()
        self.history.begin_evaluation()

    def validation_step(self, batch: dict[str, Tensor], _: int, dataloader_idx: int = 0) -> None:
        # Lightning's no_grad alone for padded networks: they may keep tensors for their next training step
        with torch.inference_mode() if forward.is_packed(self.network) else contextlib.nullcontext():
            logits = self.context.gather_logits(self.network, classifier.inputs(batch))
            self.history.add_logits(dataloader_idx, batch["index"], logits)

    def on_train_epoch_end(self) -> None:
        """After the evaluation, if there is one."""
        release_memory()
        weights = self.objective.mean_weights()
        epoch = self.history.end_epoch(self.objective.mean_loss(), weights, self.network.state_dict)
        if self.learner is not None:
            collapsed = collapsed_classes(weights, self.job.train[1], self.job.labels)
            for line in self.learner.epoch_warnings() + collapsed:
                self.reporter.log(f"epoch {self.current_epoch + 1}: {line}", logging.WARNING)
        self.reporter.epoch_finished(self.current_epoch + 1, self.job.epochs, epoch)
        scalars = epoch_scalars(epoch.train_loss, epoch.metrics, weights)
        # equal on all processes: else Lightning warns
        self.log_dict(scalars, sync_dist=self.context.world_size > 1)


def labelled_texts(split: TokenizedSplit) -> LabelledTexts:
    """TokenizedTexts and label positions as a learner of weights takes them."""
    tokens, targets = split
    return LabelledTexts(tokens.batch, tokens.lengths, targets)
