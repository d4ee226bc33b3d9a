"""How files are written: beside, then moved into place."""

import os
import socket
from pathlib import Path


def beside(path: Path) -> Path:
    """Where this process writes a file before it takes its place: no other process writes there, on no machine."""
    return path.with_name(f".{path.name}.{socket.gethostname()}-{os.getpid()}.part")
