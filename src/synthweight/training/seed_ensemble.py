"""Several seeds of one configuration trained at once, as one stack of networks."""

import gc
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.combined_loader import CombinedLoader
from torch import Tensor, nn

from ..errors import UserError, first_line, memory_full
from ..losses import WeightedLoss
from ..losses.base import LearnedLoss
from ..models import classifier, optim
from ..models.packed import forward
from ..models.packed.ensemble import StackedNetworks, clip_each, stacked
from .devices import device
from .history import TrainingHistory, epoch_scalars
from .job import TrainingJob, built_network
from .memory import hold_memory, release_memory
from .objective import WeightedObjective
from .reporter import RunReporter
from .trainer import (
    THREADS,
    FitResult,
    evaluate_selected,
    keyboard_interrupt,
    lightning_trainer,
    silence_lightning,
)

if TYPE_CHECKING:
    from ..config.schema import Trainer

ALIKE = ("folder", "strategy", "weighting", "optim", "trainer", "epochs", "labels", "select", "keep_state")


@dataclass(frozen=True)
class EnsembleMember:
    """One of the trainings of a stack.

    Args:
        job: what to train.
        reporter: is told its epochs.
    """

    job: TrainingJob
    reporter: RunReporter = field(default_factory=RunReporter)


class SeedEnsembleModule(pl.LightningModule):
    """Trains a stack: a batch, a loss and a clipped gradient for each network, one step of AdamW for all.

    Args:
        stack: of the members' networks.
        members: which differ in their seed alone.
    """

    def __init__(self, stack: StackedNetworks, members: Sequence[EnsembleMember]) -> None:
        super().__init__()
        self.stack, self.members, self.optim = stack, members, members[0].job.optim
        self.objectives: Any = nn.ModuleList(WeightedObjective(member.job) for member in members)
        self.histories = [TrainingHistory(member.job) for member in members]

    def training_step(self, batches: list[dict[str, Tensor]], _: int) -> Tensor:
        logits = self.stack([classifier.inputs(batch) for batch in batches])
        each = zip(self.objectives, batches, logits, strict=True)
        losses = [objective(objective.score(batch["index"], own)) for objective, batch, own in each]
        return torch.stack(losses).sum()

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """The stack moves its batches itself, once they are laid out."""
        if isinstance(batch, dict):
            return batch | {"index": batch["index"].to(device, non_blocking=True)}
        return [self.transfer_batch_to_device(one, device, dataloader_idx) for one in batch]

    def configure_optimizers(self) -> Any:
        steps = int(self.trainer.estimated_stepping_batches)
        optimizer, schedule = optim.optimizer(self.stack, self.optim, steps, self.device, stacked=True)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def configure_gradient_clipping(self, *_: Any, **__: Any) -> None:
        clip_each(self.stack, self.optim.clip_norm)

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.members[0].reporter.step_finished(batch_idx + 1)  # one bar for all
        self.trainer.optimizers[0].zero_grad()  # as a training alone does

    def on_train_start(self) -> None:
        for history in self.histories:
            history.seconds.restart()

    def on_train_epoch_start(self) -> None:
        steps = int(self.trainer.num_training_batches)
        self.members[0].reporter.epoch_started(self.current_epoch + 1, self.members[0].job.epochs, steps)
        for objective in self.objectives:
            objective.begin_epoch()

    def on_validation_start(self) -> None:
        release_memory()
        for history in self.histories:
            history.begin_evaluation()

    def validation_step(self, batch: dict[str, Tensor], _: int, dataloader_idx: int = 0) -> None:
        logits = self.stack([classifier.inputs(batch)] * len(self.histories))
        for history, own in zip(self.histories, logits, strict=True):
            history.add_logits(dataloader_idx, batch["index"], own)

    def on_train_epoch_end(self) -> None:
        release_memory()
        each = zip(self.members, self.objectives, self.histories, strict=True)
        for s, (member, objective, history) in enumerate(each):
            weights = objective.mean_weights()
            epoch = history.end_epoch(objective.mean_loss(), weights, partial(self.stack.state, s))
            member.reporter.epoch_finished(self.current_epoch + 1, member.job.epochs, epoch)
            scalars = epoch_scalars(epoch.train_loss, epoch.metrics, weights)
            for logger in member.reporter.loggers:
                logger.log_metrics({**scalars, "epoch": self.current_epoch}, self.global_step - 1)
                logger.save()


def why_not_stacked(strategy: WeightedLoss, trainer: "Trainer") -> str | None:
    """Why a training cannot be one of a stack, in a few words; None: it can.

    Args:
        strategy: the loss.
        trainer: its settings.
    """
    if strategy.candidates != 1 or isinstance(strategy, LearnedLoss):
        return f"loss={strategy.name} learns or picks beside the network"
    if trainer.padding:
        return "trainer.padding=true"
    if trainer.compile:
        return "trainer.compile=true"
    if trainer.devices > 1:
        return f"trainer.devices={trainer.devices}"
    return None


def fit_seed_ensemble(members: Sequence[EnsembleMember]) -> list[FitResult]:
    """Trains seeds of one configuration at once, each on its own batches.

    The results are those of one training after the other, but for dropout's draws.

    The seconds of each are its share of the stack's.

    Raises:
        ValueError: jobs that differ in more than their seed and what comes of it.
        UserError: the encoder is of a family that is not packed, a loss is not finite, or the stack does not
            fit into memory.
    """
    silence_lightning()
    hold_memory()
    first = members[0].job
    require_alike([member.job for member in members])
    torch.set_num_threads(first.trainer.threads or THREADS)
    try:
        return _fit_stack(members)
    except RuntimeError as error:
        if not memory_full(error):
            raise
        reason = first_line(error)
    gc.collect()  # what failed hangs in a cycle with Lightning's trainer
    release_memory()
    kind = device(first.trainer.accelerator).type
    raise UserError(
        f"out of memory on this {kind} ({reason}): train these {len(members)} seeds without --stack-seeds"
    )


def require_alike(jobs: Sequence[TrainingJob]) -> None:
    """Raises where jobs cannot be a stack."""
    first = jobs[0]
    if why := why_not_stacked(first.strategy, first.trainer):
        raise UserError(f"seeds are not stacked: {why}")
    for other in jobs[1:]:
        if any(getattr(other, key) != getattr(first, key) for key in ALIKE):
            raise ValueError("trainings of a stack differ in their seed alone")
        if len(other.train[1]) != len(first.train[1]):
            raise ValueError("trainings of a stack have as many texts")
        if list(other.series) != list(first.series):
            raise ValueError("trainings of a stack are scored on the same series")
        for name, (tokens, targets) in other.series.items():
            known, labels = first.series[name]
            if not (np.array_equal(tokens.ids, known.ids) and np.array_equal(targets, labels)):
                raise ValueError(f"trainings of a stack are scored on the same series: {name} differs")


def _fit_stack(members: Sequence[EnsembleMember]) -> list[FitResult]:
    splits = [split for member in members for split in member.job.splits]
    with ExitStack() as built:
        networks, pruned = [], []
        for member in members:
            pl.seed_everything(member.job.seed, verbose=False)
            network, job = built.enter_context(built_network(member.job, splits))
            if not forward.is_packed(network):
                raise UserError("seeds are not stacked: this encoder's family is not packed")
            networks.append(network)
            pruned.append(replace(member, job=job))
        pl.seed_everything(members[0].job.seed, verbose=False)  # dropout's draws are the stack's own
        with stacked(networks) as stack:
            module = SeedEnsembleModule(stack, pruned)
            trainer = lightning_trainer(members[0].job, replace(members[0].reporter, loggers=()))
            batches = CombinedLoader([member.job.training_batches() for member in pruned], "min_size")
            with keyboard_interrupt(), pruned[0].reporter.show_progress():
                trainer.fit(module, batches, pruned[0].job.evaluation_batches() or None)
        for member, history, network in zip(pruned, module.histories, networks, strict=True):
            for stage in ("weights", "train", "evaluate"):
                setattr(history.seconds, stage, getattr(history.seconds, stage) / len(members))
            evaluate_selected(member.job, history, network)
    gc.collect()
    release_memory()
    results = []
    for objective, history, network in zip(module.objectives, module.histories, networks, strict=True):
        network.eval()
        results.append(
            FitResult(network, history.epochs, history.selected, int(objective.guard_hits), history.seconds)
        )
    return results
