"""Bars of what is under way: all of a process in one display on a terminal, nothing elsewhere.

While a bar is shown, lines that are written to standard output or error appear above it.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.progress import Progress, Task

_display: "Progress | None" = None  # a terminal takes one at a time: bars within bars share it
enabled = True  # --quiet sets it to False


class Bar:
    """One bar.

    Args:
        display: Where it is shown; None shows nothing.
        task: Its number there.
    """

    def __init__(self, display: "Progress | None", task: Any = None) -> None:
        self.display, self.task = display, task

    def update(self, done: float, description: str | None = None, total: float | None = None) -> None:
        """Sets how much is done; also another description or total, where one is given."""
        if self.display is not None:
            self.display.update(self.task, completed=done, total=total, description=description)


@contextmanager
def progress_bar(description: str, total: float) -> Iterator[Bar]:
    """Shows a bar with what is done, the rate and the time left, until the block ends.

    Args:
        description: What is under way, in a few words.
        total: How much there is to do.
    """
    global _display
    if not enabled or not sys.stdout.isatty():
        yield Bar(None)
        return
    first = _display is None
    if _display is None:
        _display = _new_display()
        _display.start()
    task = _display.add_task(description, total=total)
    try:
        yield Bar(_display, task)
    finally:
        _display.remove_task(task)
        if first:
            _display.stop()
            _display = None


def _new_display() -> "Progress":
    """The columns of every bar."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    class Rate(TextColumn):
        def render(self, task: "Task") -> Any:
            task.fields["rate"] = rate_text(task.finished_speed or task.speed)
            return super().render(task)

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        Rate("{task.fields[rate]}"),
        TimeRemainingColumn(),
        TextColumn("left"),
        transient=True,
        speed_estimate_period=3600,
    )


def rate_text(speed: float | None) -> str:
    """So many per second, or seconds or minutes for each, whichever reads best; empty where it is not known
    yet.
    """
    if not speed:
        return ""
    if speed >= 1:
        return f"{speed:.1f}/s"
    return f"{1 / speed:.0f} s each" if speed > 1 / 120 else f"{1 / speed / 60:.0f} min each"
