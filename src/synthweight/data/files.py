"""How files are written: beside, then moved into place."""

import os
from pathlib import Path


def beside(path: Path) -> Path:
    """Where this process writes a file before it takes its place: no other process writes there."""
    return path.with_name(f".{path.name}.{os.getpid()}.part")
