"""What a training reports while it runs."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import perf_counter
from typing import TYPE_CHECKING

from ..progress import Bar, progress_bar
from .history import Epoch

if TYPE_CHECKING:
    from pytorch_lightning.loggers import Logger

logger = logging.getLogger(__name__)


@dataclass
class RunReporter:
    """Logs the messages and epochs of one training, and shows a bar of its steps on a terminal.

    Args:
        name: what its messages begin with; the empty string: nothing is logged or shown.
        loggers: Lightning's, which get the scalars of each epoch.
        started: when the run began, by `perf_counter`.
    """

    name: str = ""
    loggers: "Sequence[Logger]" = ()
    started: float = field(default_factory=perf_counter)
    bar: Bar = field(default=Bar(), init=False)

    def log(self, message: str, level: int = logging.INFO) -> None:
        """Logs a line: the name, the message, the seconds since the start.

        Args:
            message: without the run's name.
            level: of `logging`.
        """
        if self.name or level >= logging.WARNING:
            logger.log(level, "%s: %s · %.0f s", self.name, message, perf_counter() - self.started)

    @contextmanager
    def show_progress(self) -> Iterator[None]:
        """Shows the bar for the block."""
        if not self.name:
            yield
            return
        with progress_bar("steps", 1) as self.bar:
            yield

    def epoch_started(self, number: int, epochs: int, steps: int) -> None:
        """Called at the beginning of each epoch.

        Args:
            number: of the epoch, from 1.
            epochs: how many there will be.
            steps: how many the epoch has.
        """
        self.bar.restart(f"epoch {number}/{epochs}, steps", steps)

    def step_finished(self, steps: int) -> None:
        """Called after each step.

        Args:
            steps: how many of the epoch are done.
        """
        self.bar.update(steps)

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
