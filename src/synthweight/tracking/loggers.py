"""Where a run's epoch_scalars go besides its row: a CSV file, TensorBoard or W&B."""

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
from ..training.history import Epoch, epoch_scalars

if TYPE_CHECKING:
    from ..config import schema
    from .wandb import LiveRun


@dataclass
class RunLogger:
    """The loggers of one run while it trains.

    Args:
        lightning: get scalars from Lightning itself.
        board: TensorBoard's, for the weights' histograms.
        live: W&B's.
    """

    lightning: list[Logger] = field(default_factory=list)
    board: TensorBoardLogger | None = None
    live: "LiveRun | None" = None

    def log_epoch(self, number: int, epoch: Epoch) -> None:
        """Logs what Lightning does not: the weights' histogram, and everything for W&B.

        Args:
            number: counted from 1.
            epoch: its metrics and weights.
        """
        if self.board is not None:
            weights = epoch.weights[np.isfinite(epoch.weights)]
            if len(weights):
                self.board.experiment.add_histogram("weights/histogram", weights, number)
        if self.live is not None:
            self.live.log_epoch(
                number, epoch_scalars(epoch.train_loss, epoch.metrics, epoch.weights), epoch.weights
            )

    def log_row(self, row: Callable[[], dict[str, Any]]) -> None:
        """Logs the finished row.

        Args:
            row: reads it; called only where it is needed.
        """
        if self.live is not None:
            self.live.log_row(row())


def require_logger(name: str) -> None:
    """Raises UserError where a logger's package is not installed."""
    if name == "tensorboard" and not (find_spec("tensorboardX") or find_spec("tensorboard")):
        raise UserError(
            "logger=tensorboard needs a package that is not installed: pip install -e .[tensorboard]"
        )


@contextmanager
def open_logger(
    settings: "schema.Logger", run_id: str, folder: Path, config: dict[str, Any]
) -> Iterator[RunLogger]:
    """The loggers of one run, closed in every case.

    A second `wandb.init` in a process would return the first run.

    Args:
        settings: `logger` of the run.
        run_id: of the run.
        folder: of the run.
        config: the resolved settings.
    """
    if settings.name == "csv":
        yield RunLogger([CSVLogger(folder, name=None, version="csv")])
    elif settings.name == "tensorboard":
        board = TensorBoardLogger(folder, name="", version="tensorboard", default_hp_metric=False)
        board.experiment.add_text("config", f"```\n{json.dumps(config, indent=1, ensure_ascii=False)}\n```")
        try:
            yield RunLogger([board], board=board)
        finally:
            board.experiment.close()
    elif settings.name == "wandb":
        from . import wandb  # half a second that the others need not wait

        live = wandb.LiveRun(
            wandb.RunCard.from_config(run_id, config, settings.project, settings.group), folder
        )
        try:
            yield RunLogger(live=live)
        except BaseException as error:
            live.close(error)
            raise
        live.close(None)
    else:
        yield RunLogger()
