"""Where the package's messages go: a line each; warnings and errors to standard error."""

import logging
import sys
from typing import TextIO


class _Handler(logging.StreamHandler[TextIO]):
    """Writes to the current standard output or error, which a progress display may have replaced.

    Args:
        errors: Takes warnings and errors, for standard error; the other handler takes the rest.
        to_stdout: Whether the rest goes to standard output.
    """

    def __init__(self, errors: bool, to_stdout: bool) -> None:
        self.errors, self.to_stdout = errors, to_stdout
        super().__init__()
        self.setFormatter(logging.Formatter("%(message)s"))
        self.addFilter(lambda record: (record.levelno >= logging.WARNING) == errors)

    @property
    def stream(self) -> TextIO:
        """Looked up for every message."""
        return sys.stdout if self.to_stdout and not self.errors else sys.stderr

    @stream.setter
    def stream(self, value: TextIO) -> None:
        """StreamHandler sets it once; that is passed over."""


def configure(quiet: bool = False, to_stdout: bool = True) -> None:
    """Sets up the command's handlers.

    Hydra's job_logging replaces them where one is chosen (conf chooses none).

    Args:
        quiet: Show warnings and errors alone.
        to_stdout: Whether messages go to standard output, for a command that prints no result there.
    """
    remove()
    for errors in (False, True):
        logging.getLogger().addHandler(_Handler(errors, to_stdout))
    logging.getLogger("synthweight").setLevel(logging.WARNING if quiet else logging.INFO)


def remove() -> None:
    """Takes the command's handlers away."""
    root = logging.getLogger()
    for handler in [h for h in root.handlers if isinstance(h, _Handler)]:
        root.removeHandler(handler)


def configure_process() -> None:
    """The same in a launcher's process, which never calls the command, unless its logging is set up already."""
    if not logging.getLogger().handlers:
        configure()
