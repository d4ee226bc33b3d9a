"""At most one process per run: a lock file with a heartbeat, valid over a shared file system.

The file is filelock's `SoftFileLease`: its holder renews it every third of `DURATION`. A crashed holder's
lock expires.
"""

import contextlib
import json
import logging
import os
import secrets
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import SoftFileLease, Timeout

from ..atomic_io import part_path
from ..errors import LockLostError, RunLockedError

logger = logging.getLogger(__name__)

DURATION = (
    60.0  # seconds without a heartbeat after which a lock expires: the same for every worker, so no setting
)
POLL = 0.5  # seconds between two looks at another process's lock


@dataclass(frozen=True)
class LockHolder:
    """The process that holds a lock.

    Args:
        host: its machine's name.
        pid: its process id; 0 where the lock file has no content yet.
        since: when it took the lock; None where it has not written that yet.
        status: what it is doing, such as "epoch 2/5".
        age: seconds since its last heartbeat, by the file's time.
    """

    host: str
    pid: int
    since: str | None
    status: str
    age: float

    @property
    def alive(self) -> bool:
        """Whether it runs: by its process on this machine, by its heartbeat on another."""
        if self.host == socket.gethostname():
            try:
                os.kill(self.pid, 0)
            except ProcessLookupError:
                return False
            except PermissionError:
                return True
        return self.age < DURATION

    def __str__(self) -> str:
        return f"{self.host} (process {self.pid}{f', since {self.since}' if self.since else ''})"


class RunLock:
    """A lock that this process holds; `acquire` makes it.

    Args:
        lease: of filelock.
        folder: of the run.
    """

    def __init__(self, lease: SoftFileLease, folder: Path) -> None:
        self.lease, self.description = lease, folder / "lease.json"
        self.record: dict[str, Any] = {"host": socket.gethostname(), "pid": os.getpid(), "token": lease.token}
        self.record["since"] = datetime.now(UTC).isoformat(timespec="seconds")
        self.set_status("")

    def set_status(self, text: str) -> None:
        """Writes what other processes may read about the work, such as "epoch 2/5"."""
        part = part_path(self.description)
        with contextlib.suppress(OSError):  # a status is no reason to stop
            part.write_text(json.dumps(self.record | {"status": text}), encoding="utf-8")
            os.replace(part, self.description)

    def check(self) -> None:
        """Checks that no other process has taken the lock over.

        Raises:
            LockLostError: one has, so that its results count and this process must write nothing.
        """
        marker = self.lease.owner
        if self.lease.compromise is not None or marker is None or marker.token != self.lease.token:
            raise LockLostError(
                f"{self.description.parent.name}: this process gave no sign of life for {DURATION:.0f} s (suspended? the disk "
                "unreachable?) and another one took the run over, whose result counts: the same command goes on"
            )


class LockMonitor:
    """Whether locks are held, as this process sees it; removes those without a heartbeat.

    The time without a heartbeat is measured with this process's own clock from its first look on: the clocks
    of two machines may differ.
    """

    def __init__(self) -> None:
        # a lock file's times and inode, and since when
        self.seen: dict[Path, tuple[tuple[int, int, int], float]] = {}

    def is_locked(self, folder: Path) -> bool:
        """Whether a living process holds the lock of a run's folder.

        Called again and again, it removes a dead process's lock after `DURATION`.
        """
        path = folder / "lease"
        found = lock_holder(folder) if path.exists() else None
        if found is None:
            self.seen.pop(path, None)
            return False
        if self.remove_if_stale(path):
            return False
        return found.pid == 0 or found.host != socket.gethostname() or found.alive

    def remove_if_stale(self, path: Path) -> bool:
        """Removes a lock file that has not changed for 1.25 × `DURATION` since this object first saw it.

        filelock does so itself by exchanging two names, which NFS refuses, and never for a lock whose writer
        died before its first byte. Of several processes one wins the rename; a lock file that changed
        meanwhile is put back.

        Returns:
            Whether the lock file is gone.
        """
        try:
            now, stat = time.monotonic(), path.stat()
            looks = stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino
            before, since = self.seen.setdefault(path, (looks, now))
            if before != looks:
                self.seen[path] = looks, now
                return False
            if now - since < 1.25 * DURATION:
                return False
            aside = path.with_name(f".lease.{secrets.token_hex(8)}.part")
            os.rename(path, aside)
            if aside.stat().st_mtime_ns != looks[0] or aside.stat().st_ino != looks[2]:
                with contextlib.suppress(FileExistsError):
                    os.link(aside, path)
            aside.unlink()
        except FileNotFoundError:
            pass  # another process was quicker
        self.seen.pop(path, None)
        return not path.exists()


@contextlib.contextmanager
def acquire(folder: Path, wait: bool = True, monitor: LockMonitor | None = None) -> Iterator[RunLock]:
    """Holds the lock of a run's folder for the block.

    A dead process's lock is free: at once on its machine, after `DURATION` on another.

    Args:
        folder: of the run; created.
        wait: whether to wait until a living holder releases it; a message names it.
        monitor: of a caller that tries again and again without waiting.

    Raises:
        RunLockedError: another process holds it and `wait` is False.
        OSError: the lock file cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path, monitor = folder / "lease", monitor or LockMonitor()
    lease = SoftFileLease(path, lease_duration=DURATION)
    logged = False
    while True:
        try:
            lease.acquire(timeout=0)
            break
        except Timeout:
            monitor.remove_if_stale(path)
            if not wait:
                raise RunLockedError(
                    f"{folder.name} is locked by {lock_holder(folder) or 'another process'}"
                ) from None
            if not logged:
                logger.info(
                    "%s is locked by %s; waiting", folder.name, lock_holder(folder) or "another process"
                )
                logged = True
            time.sleep(POLL)
    try:
        yield RunLock(lease, folder)
    finally:
        if lease.compromise is None:
            (folder / "lease.json").unlink(missing_ok=True)
        lease.release()


def lock_holder(folder: Path) -> LockHolder | None:
    """The process whose lock file is in a run's folder, dead or alive, or None."""
    path = folder / "lease"
    try:
        marker = SoftFileLease(path, lease_duration=DURATION).owner
        age = time.time() - path.stat().st_mtime
    except OSError:
        return None
    if marker is None:  # the file is being written, or its writer died before the first byte
        return LockHolder("a process that is starting", 0, None, "", age)
    description: dict[str, Any] = {}
    with contextlib.suppress(OSError, ValueError):
        description = json.loads((folder / "lease.json").read_text(encoding="utf-8"))
    if description.get("token") != marker.token:  # of an earlier holder
        description = {}
    host = marker.hostname.split("?")[0]
    return LockHolder(host, marker.pid, description.get("since"), description.get("status", ""), age)
