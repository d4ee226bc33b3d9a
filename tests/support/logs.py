"""What the package says."""

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def logged(pattern: str) -> Iterator[list[str]]:
    """Within it the package logs a message in which the pattern is found; yields the list that gets all messages."""
    messages: list[str] = []

    class Kept(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            messages.append(record.getMessage())

    handler, logger = Kept(), logging.getLogger("synthweight")
    logger.addHandler(handler)
    try:
        yield messages
    finally:
        logger.removeHandler(handler)
    assert any(re.search(pattern, message) for message in messages), messages
