"""What a training reports while it runs."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import TYPE_CHECKING

from .history import Epoch

if TYPE_CHECKING:
    from pytorch_lightning.loggers import Logger

logger = logging.getLogger(__name__)


@dataclass
class RunReporter:
    """Logs the messages and epochs of one training.

    Args:
        name: what its messages begin with; the empty string: nothing is logged.
        loggers: Lightning's, which get the scalars of each epoch.
    """

    name: str = ""
    loggers: "Sequence[Logger]" = ()
    started: float = field(default_factory=perf_counter)

    def log(self, message: str, level: int = logging.INFO) -> None:
        """Logs a line: the name, the message, the seconds since the start."""
        if self.name or level >= logging.WARNING:
            logger.log(level, "%s: %s · %.0f s", self.name, message, perf_counter() - self.started)

    def epoch_finished(self, number: int, epochs: int, epoch: Epoch) -> None:
        """Called at the end of each epoch.

        Args:
            number: of the epoch, from 1.
            epochs: how many there will be.
            epoch: its results.
        """
        accuracy = epoch.metrics["selection"]["accuracy"] if "selection" in epoch.metrics else None
        selection = "" if accuracy is None else f" · selection {accuracy:.1%}"
        self.log(f"epoch {number}/{epochs} · loss {epoch.train_loss:.4f}{selection}")
