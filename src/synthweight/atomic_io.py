"""How files are written: beside, then moved into place."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def beside(path: Path) -> Path:
    """Where this process writes a file before it takes its place: no other process writes there, on no machine."""
    return path.with_name(f".{path.name}.{socket.gethostname()}-{os.getpid()}.part")


@contextmanager
def placed(path: Path) -> Iterator[Path]:
    """Where to write a file that takes its place when all went well, and is removed when not: a full disk keeps no half."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = beside(path)
    try:
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
