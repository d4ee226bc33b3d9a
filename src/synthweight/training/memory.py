"""Memory of the process: what glibc keeps or gives back, and what is said where a batch does not fit."""

import ctypes
from functools import cache
from typing import Any

from ..errors import UserError

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h


def too_large(batch_size: int, device: str, error: str) -> UserError:
    """The error for a training whose batch does not fit; `error`: what torch reported.

    Args:
        batch_size: `optim.batch_size`.
        device: where it did not fit.
        error: the library's first line.
    """
    return UserError(f"out of memory on this {device} ({error}): lower optim.batch_size={batch_size}")


def hold_memory() -> None:
    """Keeps freed memory in the process, from now on, until the next `release_memory`.

    glibc hands large blocks back as they are freed, and each page costs a microsecond when it is requested
    again: a million pages and more in three epochs of MiniLM, half of them in evaluation. Blocks of 32 MiB
    and more are handed back still.
    """
    libc = glibc()
    if libc is not None:
        libc.mallopt(M_MMAP_THRESHOLD, 32 * 2**20)  # the most that it takes
        libc.mallopt(M_TRIM_THRESHOLD, 512 * 2**20)


def release_memory() -> None:
    """Gives freed memory back to the system.

    Batches of changing shapes leave holes that glibc keeps. With MiniLM a process holds 1.3-1.4 GB between
    the runs of a sweep instead of 1.7-2.2; the peak within a run hardly changes (2.4 instead of 2.5).
    """
    libc = glibc()
    if libc is not None:
        libc.malloc_trim(0)


@cache
def glibc() -> Any:
    """The C library, where it is glibc."""
    try:
        libc = ctypes.CDLL(None)
        return libc if hasattr(libc, "malloc_trim") else None
    except (OSError, TypeError):
        return None
