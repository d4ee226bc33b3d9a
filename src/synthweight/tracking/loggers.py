"""Where a run's curves go besides its row: a CSV file, TensorBoard or W&B."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pytorch_lightning.loggers import CSVLogger, Logger, TensorBoardLogger

from ..errors import UserError
from ..training.history import Epoch, curves

if TYPE_CHECKING:
    from ..config import schema
    from .wandb import Live


@dataclass
class Watch:
    """What looks on while a run trains. Scalars reach `lightning` by Lightning itself."""

    lightning: list[Logger] = field(default_factory=list)
    board: TensorBoardLogger | None = None
    live: "Live | None" = None

    def epoch(self, number: int, epoch: Epoch) -> None:
        """Notes an epoch, counted from 1: what Lightning's loggers take no part in."""
        if self.board is not None:
            weights = epoch.weights[np.isfinite(epoch.weights)]
            if len(weights):
                self.board.experiment.add_histogram("weights/histogram", weights, number)
        if self.live is not None:
            self.live.epoch(number, curves(epoch.train_loss, epoch.metrics, epoch.weights), epoch.weights)

    def done(self, row: Callable[[], dict[str, Any]]) -> None:
        """Notes the row that the run has become, which is read for those that want it alone."""
        if self.live is not None:
            self.live.row(row())


def require(name: str) -> None:
    """Raises UserError where a logger's package is not installed."""
    if name == "tensorboard" and not (find_spec("tensorboardX") or find_spec("tensorboard")):
        raise UserError("logger=tensorboard needs a package that is not installed: pip install -e .[tensorboard]")


@contextmanager
def opened(logger: "schema.Logger", run_id: str, folder: Path, config: dict[str, Any]) -> Iterator[Watch]:
    """What looks on at one run, closed in every case (a second `wandb.init` in a process would return the first run).

    Args:
        folder: of the run. config: resolved.
    """
    if logger.name == "csv":
        yield Watch([CSVLogger(folder, name=None, version="csv")])
    elif logger.name == "tensorboard":
        board = TensorBoardLogger(folder, name="", version="tensorboard", default_hp_metric=False)
        board.experiment.add_text("config", f"```\n{json.dumps(config, indent=1, ensure_ascii=False)}\n```")
        try:
            yield Watch([board], board=board)
        finally:
            board.experiment.close()
    elif logger.name == "wandb":
        from . import wandb, wandb_cards  # half a second that the others need not wait

        live = wandb.Live(wandb_cards.card(run_id, config, logger.project, logger.group), folder)
        try:
            yield Watch(live=live)
        except BaseException as error:
            live.close(error)
            raise
        live.close(None)
    else:
        yield Watch()
