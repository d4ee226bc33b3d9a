"""A training's state after its last whole epoch: written whole or not at all, read without pickled code."""

import pickle
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.plugins.io import CheckpointIO

from ..atomic_io import atomic_path
from ..errors import first_line
from .history import TrainingHistory, epoch_scalars

if TYPE_CHECKING:
    from .reporter import RunReporter

UNREADABLE = (OSError, EOFError, RuntimeError, ValueError, KeyError, TypeError, pickle.UnpicklingError)


class Checkpoints(CheckpointIO):
    """The files `checkpoint-<finished epochs>.pt` of one run, as Lightning's way to write and read them.

    Args:
        folder: of the run.
        identity: what a checkpoint must have been written with to be used.
        guard: called before a checkpoint takes its place; raises where the run belongs to another process by
            now.
    """

    def __init__(
        self, folder: Path, identity: dict[str, Any], guard: Callable[[], None] | None = None
    ) -> None:
        self.folder, self.identity, self.guard = folder, identity, guard

    def path(self, epochs: int) -> Path:
        """Where the state after so many epochs is written."""
        return self.folder / f"checkpoint-{epochs}.pt"

    def all(self) -> list[Path]:
        """Every checkpoint of the run, the latest first."""
        found = {
            path: re.fullmatch(r"checkpoint-(\d+)\.pt", path.name)
            for path in self.folder.glob("checkpoint-*")
        }
        return sorted((path for path, match in found.items() if match), key=lambda path: -int(found[path][1]))  # type: ignore[index]

    def latest(self, reporter: "RunReporter") -> tuple[Path, int] | None:
        """The checkpoint to continue from and its finished epochs.

        One that is damaged or of other settings is reported.
        """
        for path in self.all():
            try:
                written = self.load_checkpoint(path)
                if written["identity"] == self.identity:
                    return path, written["epoch"] + 1
                keys = sorted({*written["identity"], *self.identity})
                different = ", ".join(
                    key for key in keys if written["identity"].get(key) != self.identity.get(key)
                )
                reporter.log(f"{path.name} is of another training ({different}): not used")
            except UNREADABLE as error:
                reporter.log(f"{path.name} is damaged ({first_line(error, type(error).__name__)}): not used")
        return None

    def clear(self) -> None:
        """Removes all of them."""
        for path in self.all():
            path.unlink(missing_ok=True)

    # Lightning's side

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Writes a temporary file, moves it into place, then removes the older ones.

        Raises:
            OSError: it cannot be written; the older ones are left.
        """
        with atomic_path(Path(path)) as part:
            try:
                with part.open("wb") as file:
                    torch.save(checkpoint | {"identity": self.identity}, file)
            except RuntimeError as error:  # torch's, whose context is what the system said
                raise (error.__context__ or error) from None
            if self.guard is not None:
                self.guard()
        for older in self.all():
            if older != Path(path):
                older.unlink(missing_ok=True)

    def load_checkpoint(
        self, path: Any, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """What `save_checkpoint` was given, and its identity, on the CPU. Raises one of `UNREADABLE`."""
        return torch.load(path, map_location="cpu", weights_only=True)

    def remove_checkpoint(self, path: Any) -> None:
        Path(path).unlink(missing_ok=True)


class SaveEveryEpoch(pl.callbacks.Checkpoint):
    """Saves after each epoch but the last, which the row follows at once.

    Lightning calls a `Checkpoint` after the module.
    """

    def __init__(self, checkpoints: Checkpoints, history: TrainingHistory) -> None:
        self.checkpoints, self.history = checkpoints, history

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Sends the loggers the epochs before a resume: their files may have been emptied."""
        for number, epoch in enumerate(self.history.epochs):
            scalars = epoch_scalars(epoch.train_loss, epoch.metrics, epoch.weights)
            step = (number + 1) * int(trainer.num_training_batches) - 1
            for logger in trainer.loggers:
                logger.log_metrics({**scalars, "epoch": number}, step)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        done = trainer.current_epoch + 1
        if done < (trainer.max_epochs or 0):
            trainer.save_checkpoint(self.checkpoints.path(done))
            self.history.seconds.restart()  # saving is no stage of the method


def random_state() -> dict[str, Any]:
    """The state of the generators that a training draws from."""
    name, keys, *rest = np.random.get_state()
    return {
        "python": random.getstate(),
        "numpy": (name, torch.from_numpy(np.asarray(keys).astype(np.int64)), *rest),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state() if torch.cuda.is_available() else None,
    }


def set_random_state(state: dict[str, Any]) -> None:
    """Sets the generators back to where `random_state` was taken."""
    random.setstate(state["python"])
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))
    torch.set_rng_state(state["torch"])
    if state["cuda"] is not None:
        torch.cuda.set_rng_state(state["cuda"])
