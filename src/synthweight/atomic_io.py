"""Files that are written whole or not at all: to a temporary name beside the target, then moved into place."""

import hashlib
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def part_path(path: Path) -> Path:
    """The temporary name of a file in the same folder; unique to this process, on any machine.

    Args:
        path: where the file will be placed.
    """
    return path.with_name(f".{path.name}.{socket.gethostname()}-{os.getpid()}.part")


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yields a temporary path, and moves it to `path` when the block ends without an error.

    After an error the temporary file is removed, so that a full disk leaves no half of a file. The file gets
    the mode that the umask gives, whatever its writer gives it: safetensors makes files that only their owner
    can read.

    Args:
        path: the file to write; its folder is created.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = part_path(path)
    try:
        part.touch()
        mode = part.stat().st_mode
        yield part
        part.chmod(mode)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def sync_to_disk(path: Path) -> None:
    """Waits until a file's content is on the disk, so that a power cut cannot leave half of it."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, as 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
