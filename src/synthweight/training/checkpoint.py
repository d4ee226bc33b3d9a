"""A training's state after its last epoch: whole or not at all, read back without pickle, old ones removed."""

import json
import random
import re
import time
from collections.abc import Callable
from pathlib import Path
from shutil import rmtree
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.plugins.io import CheckpointIO
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from ..atomic_io import part_path
from ..errors import UserError, first_line
from .history import curves
from .objective import Ledger

NETWORK, REST, TREE = "network.safetensors", "state.safetensors", "state.json"
UNREADABLE = (OSError, ValueError, KeyError, TypeError, IndexError, RuntimeError, SafetensorError)


class Checkpoints(CheckpointIO):
    """The folders `checkpoint-<epochs done>` of one run, as Lightning's way to write and read.

    Args:
        folder: of the run. identity: what a checkpoint must say of itself to be used. guard: called before a checkpoint
            takes its place; raises where the run is another process's by now.
    """

    def __init__(self, folder: Path, identity: dict[str, Any], guard: Callable[[], None] | None = None) -> None:
        self.folder, self.identity, self.guard = folder, identity, guard

    def path(self, epochs: int) -> Path:
        return self.folder / f"checkpoint-{epochs}"

    def all(self) -> list[Path]:
        """Every checkpoint there is, the latest first."""
        found = [p for p in self.folder.glob("checkpoint-*") if re.fullmatch(r"checkpoint-\d+", p.name)]
        return sorted(found, key=lambda p: -int(p.name.rpartition("-")[2]))

    def latest(self, say: Callable[[str], None]) -> Path | None:
        """The one to go on from. One that is damaged or of other settings is passed over, and `say` told why."""
        for path in self.all():
            try:
                tree = json.loads((path / TREE).read_text(encoding="utf-8"))
                if tree["identity"] != self.identity:
                    say(f"{path.name} is of another training ({differing(tree['identity'], self.identity)}): not used")
                    continue
                self.load_checkpoint(path)
            except UNREADABLE as error:
                say(f"{path.name} is damaged ({first_line(error, type(error).__name__)}): not used")
                continue
            return path
        return None

    def clear(self) -> None:
        """Removes all of them: the row stands."""
        for path in self.all():
            rmtree(path, ignore_errors=True)

    # Lightning's side -----------------------------------------------------------------------------------------------

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Writes beside, moves into place, then removes the older ones.

        Raises:
            OSError: it cannot be written; what stood before stands.
        """
        target = Path(path)
        part = part_path(target)
        rmtree(part, ignore_errors=True)
        try:
            part.mkdir(parents=True)
            write(part / NETWORK, checkpoint["state_dict"])
            tensors: dict[str, Tensor] = {}
            rest = {key: value for key, value in checkpoint.items() if key != "state_dict"}
            tree = {"identity": self.identity, "state": pack(rest, tensors)}
            write(part / REST, tensors)
            (part / TREE).write_text(json.dumps(tree), encoding="utf-8")
            if self.guard is not None:
                self.guard()
            rmtree(target, ignore_errors=True)
            part.rename(target)
        finally:
            rmtree(part, ignore_errors=True)  # of a disk that was full, half of one
        for older in self.all():
            if older != target:
                rmtree(older, ignore_errors=True)

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        """What `save_checkpoint` was given, on the CPU."""
        folder = Path(path)
        tree = json.loads((folder / TREE).read_text(encoding="utf-8"))
        state = unpack(tree["state"], read(folder / REST))
        return {**state, "state_dict": read(folder / NETWORK)}

    def remove_checkpoint(self, path: Any) -> None:
        rmtree(Path(path), ignore_errors=True)


class EveryEpoch(pl.callbacks.Checkpoint):
    """Saves after each epoch but the last, which the row follows at once. Lightning calls a `Checkpoint` after the module."""

    def __init__(self, checkpoints: Checkpoints, ledger: Ledger) -> None:
        self.checkpoints, self.ledger = checkpoints, ledger

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Tells the loggers of the epochs before a resume: their files may begin anew."""
        for number, epoch in enumerate(self.ledger.epochs):
            drawn = curves(epoch.train_loss, epoch.metrics, epoch.weights)
            step = (number + 1) * int(trainer.num_training_batches) - 1
            for logger in trainer.loggers:
                logger.log_metrics({**drawn, "epoch": number}, step)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        done = trainer.current_epoch + 1
        if done < (trainer.max_epochs or 0):
            trainer.save_checkpoint(self.checkpoints.path(done))
            self.ledger.seconds.started = time.perf_counter()  # a stage of the method it is not


def write(path: Path, tensors: dict[str, Tensor]) -> None:
    """Safetensors of tensors wherever they lie; those that share memory get a copy of their own each."""
    seen: set[int] = set()
    out = {}
    for name, tensor in tensors.items():
        value = tensor.detach().cpu().contiguous()
        if value.numel() and value.data_ptr() in seen:
            value = value.clone()
        seen.add(value.data_ptr())
        out[name] = value
    try:
        save_file(out, path)
    except SafetensorError as error:  # its words for a full disk are not the system's
        raise OSError(getattr(error, "errno", None) or 0, first_line(error), str(path)) from error


def read(path: Path) -> dict[str, Tensor]:
    """Tensors of a file, each in memory of its own: within a file's they lie unaligned, and sums come out in other digits."""
    return {name: tensor.clone() for name, tensor in load_file(path).items()}


def pack(value: Any, tensors: dict[str, Tensor]) -> Any:
    """A nested state as JSON; its tensors and arrays go into `tensors`, by number.

    Raises:
        UserError: something else than None, bool, int, float, str, list, tuple, dict, tensor and array is in it.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Tensor | np.ndarray):
        name = str(len(tensors))
        tensors[name] = value if isinstance(value, Tensor) else torch.from_numpy(np.ascontiguousarray(value))
        return {"tensor" if isinstance(value, Tensor) else "array": name}
    if isinstance(value, tuple | list):
        return {type(value).__name__: [pack(item, tensors) for item in value]}
    if isinstance(value, dict):
        return {"dict": [[pack(key, tensors), pack(item, tensors)] for key, item in value.items()]}
    raise UserError(f"a checkpoint cannot hold a {type(value).__name__}: train with trainer.checkpoint=off")


def unpack(tree: Any, tensors: dict[str, Tensor]) -> Any:
    """The inverse of `pack`."""
    if not isinstance(tree, dict):
        return tree
    ((kind, inside),) = tree.items()
    if kind == "tensor":
        return tensors[inside]
    if kind == "array":
        return tensors[inside].numpy()
    if kind == "dict":
        return {unpack(key, tensors): unpack(item, tensors) for key, item in inside}
    items = [unpack(item, tensors) for item in inside]
    return tuple(items) if kind == "tuple" else items


def differing(one: dict[str, Any], other: dict[str, Any]) -> str:
    """The keys in which two identities differ."""
    return ", ".join(key for key in sorted({*one, *other}) if one.get(key) != other.get(key))


def random_state() -> dict[str, Any]:
    """Where the generators stand that a training draws from."""
    cuda = torch.cuda.get_rng_state() if torch.cuda.is_available() else None
    return {"python": random.getstate(), "numpy": np.random.get_state(), "torch": torch.get_rng_state(), "cuda": cuda}


def set_random_state(state: dict[str, Any]) -> None:
    """Back to where `random_state` was taken."""
    random.setstate(state["python"])
    np.random.set_state(state["numpy"])
    torch.set_rng_state(state["torch"])
    if state["cuda"] is not None:
        torch.cuda.set_rng_state(state["cuda"])
