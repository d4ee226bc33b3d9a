"""Bars of what is under way: all of a process in one display on a terminal, nothing elsewhere.

While a bar is shown, lines that are written to standard output or error appear above it.
"""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress, Task

_display: "Progress | None" = None  # a terminal takes one at a time: bars within bars share it
enabled = False  # `main` sets it to True, but for --quiet; a launcher's process shows none


class Bar:
    """One bar.

    Args:
        display: Where it is shown; None shows nothing.
        description: What is under way, in a few words.
        total: How much there is to do.
    """

    def __init__(self, display: "Progress | None" = None, description: str = "", total: float = 0) -> None:
        self.display = display
        if display is not None:
            self.total, self.started = total, time.monotonic()
            self.task = display.add_task(description, total=total, pace=None, end=None)

    def restart(self, description: str, total: float) -> None:
        """Begins again at nothing, so that rate and time left are those of the next part.

        Args:
            description: What is under way, in a few words.
            total: How much there is to do.
        """
        if self.display is not None:
            self.total, self.started = total, time.monotonic()
            self.display.reset(self.task, total=total, description=description, pace=None, end=None)

    def update(self, done: float) -> None:
        """Sets how much is done."""
        if self.display is not None:
            now = time.monotonic()
            pace = (now - self.started) / done if done else None  # seconds for each
            end = now + pace * (self.total - done) if pace else None
            self.display.update(self.task, completed=done, pace=pace, end=end)


@contextmanager
def progress_bar(description: str, total: float) -> Iterator[Bar]:
    """Shows a bar with what is done, the rate and the time left, until the block ends.

    Args:
        description: What is under way, in a few words.
        total: How much there is to do.
    """
    global _display
    if not enabled or not sys.stdout.isatty():
        yield Bar()
        return
    first = _display is None
    if _display is None:
        _display = _new_display()
        _display.start()
    bar = Bar(_display, description, total)
    try:
        yield bar
    finally:
        _display.remove_task(bar.task)
        if first:
            _display.stop()
            _display = None


def _new_display() -> "Progress":
    """The columns of every bar."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn
    from rich.text import Text

    class Pace(ProgressColumn):
        def render(self, task: "Task") -> Text:
            return Text(pace_text(task.fields["pace"], task.fields["end"]))

    columns = TextColumn("{task.description}"), BarColumn(bar_width=24), MofNCompleteColumn(), Pace()
    # drawing takes a millisecond of the training's time
    return Progress(*columns, transient=True, refresh_per_second=4)


def pace_text(pace: float | None, end: float | None) -> str:
    """The rate in the unit that reads best, and the time left; empty where they are not known yet.

    Args:
        pace: Seconds for each.
        end: When all will be done, by `time.monotonic`.
    """
    if not pace or end is None:
        return ""
    rate = (
        f"{1 / pace:.1f}/s"
        if pace <= 1
        else f"{pace:.0f} s each"
        if pace < 120
        else f"{pace / 60:.0f} min each"
    )
    return f"{rate}, {timedelta(seconds=max(0, round(end - time.monotonic())))} left"


def duration_text(seconds: float) -> str:
    """Seconds, minutes or hours, whichever reads best."""
    for size, unit in ((3600.0, "h"), (60.0, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"
