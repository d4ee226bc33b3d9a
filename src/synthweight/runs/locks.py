"""Who is at a run: a lease file with a heartbeat, good over a shared file system. A crash leaves it to the next one."""

import contextlib
import json
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

DURATION = 60.0  # seconds without a sign of life after which a lease is free: the same for every worker, so no setting
POLL = 0.5  # seconds between two looks at somebody else's lease
watched: dict[Path, tuple[tuple[int, int, int], float]] = {}  # what a marker looked like, and since when it has, by our clock


@dataclass(frozen=True)
class Holder:
    """Whose lease it is. `since` is None where the holder had no time to say so; `age`: seconds since its last sign."""

    host: str
    pid: int
    since: str | None
    note: str
    age: float

    @property
    def alive(self) -> bool:
        """As far as can be told from here: by the process on this machine, by its signs on another."""
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


class Claim:
    """A lease that this process holds."""

    def __init__(self, lock: SoftFileLease, folder: Path) -> None:
        self.lock, self.said = lock, folder / "lease.json"
        self.record: dict[str, Any] = {"host": socket.gethostname(), "pid": os.getpid(), "token": lock.token}
        self.record["since"] = datetime.now(UTC).isoformat(timespec="seconds")
        self.note("")

    def note(self, text: str) -> None:
        """What others may read about the work, such as "epoch 2/5"."""
        part = part_path(self.said)
        with contextlib.suppress(OSError):  # a note is no reason to stop
            part.write_text(json.dumps(self.record | {"note": text}), encoding="utf-8")
            os.replace(part, self.said)

    def check(self) -> None:
        """Raises LockLostError where another worker took over meanwhile: what it writes counts, and we write nothing."""
        marker = self.lock.owner
        if self.lock.compromise is not None or marker is None or marker.token != self.lock.token:
            raise LockLostError(
                f"{self.said.parent.name}: this process showed no sign of life for {DURATION:.0f} s (asleep? the disk away?) "
                "and another took the run over; theirs counts: the same command goes on"
            )


@contextlib.contextmanager
def hold(folder: Path, wait: bool = True) -> Iterator[Claim]:
    """One process a run. The lease of a dead process is free: at once on its machine, after DURATION on another.

    Args:
        folder: of the run. wait: until a living holder lets go, saying whose it is; else raises RunLockedError.

    Raises:
        RunLockedError: `wait` is False and another process holds it. OSError: the lease cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "lease"
    lock = SoftFileLease(path, lease_duration=DURATION)
    told = False
    while True:
        try:
            lock.acquire(timeout=0)
            break
        except Timeout:
            free_if_dead(path)
            if not wait:
                raise RunLockedError(f"{folder.name}: {holder(folder) or 'another process'} is at it") from None
            if not told:
                print(f"{folder.name}: {holder(folder) or 'another process'} is at it; waiting", flush=True)
                told = True
            time.sleep(POLL)
    watched.pop(path, None)
    try:
        claim = Claim(lock, folder)
        yield claim
    finally:
        if lock.compromise is None:
            (folder / "lease.json").unlink(missing_ok=True)
        lock.release()


def holder(folder: Path) -> Holder | None:
    """Who holds a run's lease, dead or alive, or None."""
    path = folder / "lease"
    try:
        marker = SoftFileLease(path, lease_duration=DURATION).owner
        age = time.time() - path.stat().st_mtime
    except OSError:
        return None
    if marker is None:  # being written this moment, or by a process that died while it wrote
        return Holder("a process that has not signed yet", 0, None, "", age)
    said: dict[str, Any] = {}
    with contextlib.suppress(OSError, ValueError):
        said = json.loads((folder / "lease.json").read_text(encoding="utf-8"))
    ours = said if said.get("token") == marker.token else {}
    return Holder(marker.hostname.split("?")[0], marker.pid, ours.get("since"), ours.get("note", ""), age)


def taken(folder: Path) -> bool:
    """Whether a living process holds the lease. Looked at again and again, a dead one's is freed."""
    path = folder / "lease"
    found = holder(folder) if path.exists() else None
    if found is None:
        watched.pop(path, None)
        return False
    if free_if_dead(path):
        return False
    return found.pid == 0 or found.host != socket.gethostname() or found.alive


def free_if_dead(path: Path) -> bool:
    """Removes a lease that this process has watched for DURATION and a quarter without a sign of life.

    filelock does so itself by exchanging two names, which NFS refuses, and never for a marker whose writer died before
    its first byte. The rename is won by one contender; a marker that changed meanwhile is put back.
    """
    try:
        now, stat = time.monotonic(), path.stat()
        looks = stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino
        before, since = watched.setdefault(path, (looks, now))
        if before != looks:
            watched[path] = looks, now
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
        pass  # another contender was quicker
    watched.pop(path, None)
    return not path.exists()
