"""A lock is held by one process, names it, and is free when that process is dead, here or on another machine."""

import os
import subprocess
import sys
import textwrap
import time

import pytest

from synthweight.errors import LockLostError, RunLockedError
from synthweight.runs import locks

HOLD = """
    import os, socket, sys, time
    {before}
    from pathlib import Path
    from synthweight.runs import locks
    locks.DURATION = {duration}
    with locks.acquire(Path({folder!r})) as lock:
        lock.set_status("epoch 1/2")
        print("held", flush=True)
        {inside}
"""
ELSEWHERE = "socket.gethostname = lambda: 'elsewhere'"


@pytest.fixture
def holding():
    """A real process that holds the lock of a folder; it ends with the test."""
    started = []

    def start(folder, before="", duration=60.0, inside="time.sleep(60)") -> subprocess.Popen:
        code = textwrap.dedent(HOLD).format(
            folder=str(folder), before=before, duration=duration, inside=inside
        )
        process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout.readline() == "held\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


def test_a_lock_is_refused_while_its_holder_lives_and_names_it(tmp_path, holding):
    process = holding(tmp_path / "ab")
    message = rf"ab is locked by .+ \(process {process.pid}, since 20.+\)"
    with pytest.raises(RunLockedError, match=message), locks.acquire(tmp_path / "ab", wait=False):
        pass
    assert locks.LockMonitor().is_locked(tmp_path / "ab")
    found = locks.lock_holder(tmp_path / "ab")
    assert (found.pid, found.status, found.alive) == (process.pid, "epoch 1/2", True)
    assert not locks.LockMonitor().is_locked(tmp_path / "cd")


def test_a_second_process_waits_and_goes_on(tmp_path, holding, caplog):
    process = holding(tmp_path / "ab", inside="time.sleep(1.5)")
    with caplog.at_level("INFO"), locks.acquire(tmp_path / "ab"):
        assert process.wait(timeout=20) == 0
    assert f"(process {process.pid}, since" in caplog.text
    assert not (tmp_path / "ab" / "lease").exists()
    assert not (tmp_path / "ab" / "lease.json").exists()


def test_a_killed_processs_lock_is_free_at_once_on_its_machine(tmp_path, holding):
    process = holding(tmp_path / "ab")
    process.kill()
    process.wait()
    assert not locks.lock_holder(tmp_path / "ab").alive
    assert not locks.LockMonitor().is_locked(tmp_path / "ab")
    with locks.acquire(tmp_path / "ab", wait=False):
        assert locks.lock_holder(tmp_path / "ab").pid == os.getpid()


def test_another_machines_lock_expires_without_a_heartbeat(tmp_path, holding, monkeypatch):
    """By our own clock: the marker's age says nothing where two machines' clocks differ."""
    process = holding(tmp_path / "ab", before=ELSEWHERE, duration=2.0)
    monkeypatch.setattr(locks, "DURATION", 2.0)
    monitor = locks.LockMonitor()
    for _ in range(15):  # alive for longer than the duration: its heartbeat keeps it
        assert monitor.is_locked(tmp_path / "ab")
        time.sleep(0.2)
    process.kill()
    process.wait()
    assert locks.lock_holder(tmp_path / "ab").host == "elsewhere"
    os.utime(tmp_path / "ab" / "lease", (4e9, 4e9))  # its clock was years ahead
    with locks.acquire(tmp_path / "ab"):
        pass


@pytest.mark.parametrize("marker", ["lease", "nothing written"])
def test_a_stale_lock_is_removed_where_names_cannot_be_exchanged(tmp_path, holding, monkeypatch, marker):
    """NFS refuses the exchange by which filelock breaks a lock; and it never breaks one whose writer wrote
    nothing.
    """
    from filelock import _soft

    monkeypatch.setattr(_soft, "exchange_names", lambda *_: False)
    monkeypatch.setattr(locks, "DURATION", 1.0)
    process = holding(tmp_path / "ab", before=ELSEWHERE, duration=1.0)
    process.kill()
    process.wait()
    if marker != "lease":
        (tmp_path / "ab" / "lease").write_bytes(b"")
    with pytest.raises(RunLockedError), locks.acquire(tmp_path / "ab", wait=False):
        pass
    until = time.monotonic() + 20
    monitor = locks.LockMonitor()
    while monitor.is_locked(tmp_path / "ab") and time.monotonic() < until:
        time.sleep(0.1)
    with locks.acquire(tmp_path / "ab", wait=False):
        assert locks.lock_holder(tmp_path / "ab").pid == os.getpid()


def test_a_lock_file_that_changed_meanwhile_is_put_back(tmp_path, monkeypatch):
    path = tmp_path / "lease"
    path.write_text("old")
    monkeypatch.setattr(locks, "DURATION", 0.0)
    rename = os.rename

    def late(source, target):
        (tmp_path / "new").write_text("new")
        os.replace(tmp_path / "new", path)
        rename(source, target)

    looks = path.stat()
    monitor = locks.LockMonitor()
    monitor.seen[path] = ((looks.st_mtime_ns, looks.st_ctime_ns, looks.st_ino), 0.0)
    monkeypatch.setattr(os, "rename", late)
    assert not monitor.remove_if_stale(path)
    assert path.read_text() == "new"


def test_a_suspended_process_learns_that_another_took_over(tmp_path):
    with locks.acquire(tmp_path / "ab") as lock:
        lock.check()
        (tmp_path / "ab" / "lease").unlink()
        with pytest.raises(LockLostError, match="whose result counts"):
            lock.check()
