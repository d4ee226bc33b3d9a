"""Several seeds of one configuration trained at once, as one stack of networks; each comes out as a training of its own."""

import gc
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.combined_loader import CombinedLoader
from torch import Tensor, nn

from .. import losses
from ..data.batching import evaluation_batches
from ..errors import UserError, first_line, memory_full
from ..losses.base import Learned
from ..models import classifier
from ..models.packed import forward
from ..models.packed.ensemble import Stack, clip
from . import devices, memory
from . import trainer as fit
from .history import Epoch
from .job import Fitted, Training, begun
from .objective import Ledger

if TYPE_CHECKING:
    from ..config.schema import Trainer

ALIKE = ("folder", "strategy", "weighting", "optim", "trainer", "epochs", "labels", "select", "keep_state")
Report = Callable[[int, Epoch], None]


@dataclass(frozen=True)
class Seat:
    """One of the trainings of a stack: what takes its epochs, and the loggers that get its curves."""

    training: Training
    report: Report = lambda *_: None
    loggers: Sequence[Any] = ()


class Together(pl.LightningModule):
    """Trains a stack: a batch, a loss and a clipped gradient for each network, one step of AdamW for all."""

    def __init__(self, stack: Stack, seats: Sequence[Seat]) -> None:
        super().__init__()
        self.stack, self.seats, self.optim = stack, seats, seats[0].training.optim
        self.ledgers: Any = nn.ModuleList(Ledger(seat.training, seat.report) for seat in seats)

    def training_step(self, batches: list[dict[str, Tensor]], _: int) -> Tensor:
        logits = self.stack([classifier.inputs(batch) for batch in batches])
        each = zip(self.ledgers, batches, logits, strict=True)
        values = [ledger.loss(ledger.score(batch["index"], own)) for ledger, batch, own in each]
        return torch.stack(values).sum()

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """The stack moves its batches itself, once they are laid out."""
        if isinstance(batch, dict):
            return batch | {"index": batch["index"].to(device, non_blocking=True)}
        return [self.transfer_batch_to_device(one, device, dataloader_idx) for one in batch]

    def configure_optimizers(self) -> Any:
        steps = int(self.trainer.estimated_stepping_batches)
        optimizer, schedule = classifier.optimizer(self.stack, self.optim, steps, self.device, stacked=True)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def configure_gradient_clipping(self, *_: Any, **__: Any) -> None:
        clip(self.stack, self.optim.clip_norm)

    def on_train_batch_end(self, *_: Any, **__: Any) -> None:
        self.trainer.optimizers[0].zero_grad()  # as one training does

    def on_train_start(self) -> None:
        for ledger in self.ledgers:
            ledger.seconds.started = time.perf_counter()

    def on_train_epoch_start(self) -> None:
        for ledger in self.ledgers:
            ledger.begin_epoch()

    def on_validation_start(self) -> None:
        memory.release_memory()
        for ledger in self.ledgers:
            ledger.begin_evaluation()

    def validation_step(self, batch: dict[str, Tensor], _: int, dataloader_idx: int = 0) -> None:
        logits = self.stack([classifier.inputs(batch)] * len(self.ledgers))
        for ledger, own in zip(self.ledgers, logits, strict=True):
            ledger.evaluated(dataloader_idx, batch["index"], own)

    def on_train_epoch_end(self) -> None:
        memory.release_memory()
        for s, (ledger, seat) in enumerate(zip(self.ledgers, self.seats, strict=True)):
            drawn = ledger.end_epoch(self.current_epoch, partial(self.stack.state, s))
            for logger in seat.loggers:
                logger.log_metrics({**drawn, "epoch": self.current_epoch}, self.global_step - 1)
                logger.save()


def refused(strategy: losses.WeightedLoss, trainer: "Trainer") -> str | None:
    """Why a training is none of a stack, in a few words; None: it is."""
    if strategy.candidates != 1 or isinstance(strategy, Learned):
        return f"loss={strategy.name} learns or picks beside the network"
    if trainer.padding:
        return "trainer.padding=true"
    if trainer.compile:
        return "trainer.compile=true"
    if trainer.devices > 1:
        return f"trainer.devices={trainer.devices}"
    return None


def fit_together(seats: Sequence[Seat], root: Path = Path(".")) -> list[Fitted]:
    """Trains seeds of one configuration at once, each on batches of its own; equal to one after the other, dropout's draws apart.

    The seconds of each are its share of the stack's.

    Raises:
        ValueError: trainings that differ in more than their seed, and what comes of it. UserError: the encoder is of a family
            that is not packed, a loss is not finite, or the stack does not fit into memory.
    """
    fit.quiet()
    memory.hold_memory()
    trainings = [seat.training for seat in seats]
    first = trainings[0]
    check(trainings)
    torch.set_num_threads(first.trainer.threads or fit.THREADS)
    try:
        return stacked(seats, root)
    except RuntimeError as error:
        if not memory_full(error):
            raise
        said = first_line(error)
    gc.collect()  # what failed hangs in a cycle with Lightning's trainer
    memory.release_memory()
    kind = devices.device(first.trainer.accelerator).type
    raise UserError(f"out of memory on this {kind} ({said}): train these {len(seats)} seeds without --stack-seeds")


def check(trainings: Sequence[Training]) -> None:
    first = trainings[0]
    if why := refused(first.strategy, first.trainer):
        raise UserError(f"seeds are not stacked: {why}")
    for other in trainings[1:]:
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


def stacked(seats: Sequence[Seat], root: Path) -> list[Fitted]:
    splits = [split for seat in seats for split in seat.training.splits]
    first = seats[0].training
    with ExitStack() as open_:
        networks, narrowed = [], []
        for seat in seats:
            pl.seed_everything(seat.training.seed, verbose=False)
            network, training = open_.enter_context(begun(seat.training, splits))
            if not forward.packs(network):
                raise UserError("seeds are not stacked: this encoder's family is not packed")
            networks.append(network)
            narrowed.append(replace(seat, training=training))
        pl.seed_everything(first.seed, verbose=False)  # dropout's draws are the stack's own
        with Stack.of(networks) as stack:
            module = Together(stack, narrowed)
            run(module, narrowed, root)
        for ledger, seat, network in zip(module.ledgers, narrowed, networks, strict=True):
            ledger.seconds.started = time.perf_counter()
            fit.finish(seat.training, ledger, network)
    gc.collect()
    memory.release_memory()
    out = []
    for ledger, network in zip(module.ledgers, networks, strict=True):
        for stage in ("weights", "train", "evaluate"):
            setattr(ledger.seconds, stage, getattr(ledger.seconds, stage) / len(seats))
        network.eval()
        out.append(Fitted(network, ledger.epochs, ledger.selected, int(ledger.hits), ledger.seconds))
    return out


def run(module: Together, seats: Sequence[Seat], root: Path) -> None:
    t = seats[0].training
    trainer = fit.lightning(t, root)
    loaders = [seat.training.batches() for seat in seats]
    series = [evaluation_batches(tokens, fit.evaluation_tokens(t.trainer)) for tokens, _ in t.series.values()]
    with fit.interruptible():
        trainer.fit(module, CombinedLoader(loaders, "min_size"), series or None)
