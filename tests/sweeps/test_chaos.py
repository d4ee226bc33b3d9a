"""Kills, a full disk, two sweeps at once: no run lost, none twice, none damaged.

The real command, as processes.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from support.cli import CLI
from synthweight.config.schema import ROOT
from synthweight.runs.store import Store

pytestmark = pytest.mark.slow


def sweep(path: Path, values: list[str], *more: str, **kwargs) -> subprocess.Popen:
    command = [sys.executable, "-c", CLI, "sweep", str(path), *values, *more]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **kwargs)


@pytest.mark.timeout(2400)
def test_a_sweep_through_kills_full_disks_and_stopped_workers_loses_and_doubles_nothing():
    """`benchmarks/chaos.py` says what must hold, and exits with 1 where it does not."""
    command = [sys.executable, ROOT / "benchmarks" / "chaos.py", "--kills", "12", "--workers", "3"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


@pytest.mark.timeout(600)
def test_two_sweeps_that_share_checkers_train_each_once(small, tmp_path):
    path, values = small
    other = tmp_path / "other.yaml"
    other.write_text(path.read_text().replace("imp,dimp,focal", "imp,dimp,quality_only"))
    running = [sweep(p, values) for p in (path, other)]
    said = [process.communicate() for process in running]
    assert [process.returncode for process in running] == [0, 0], said
    store = Store(tmp_path / "outputs")
    rows = [store.row(run_id) for run_id in store.ids()]
    assert len(rows) == 12  # 8 and 8, of them 6 shared; 2 diversity checkers
    out = "".join(out for out, _ in said)
    for source in ("small_real", "synthetic"):
        for seed in (0, 1):
            assert out.count(f"local {source} ce tiny seed {seed}: epoch 1/") == 1
    assert out.count(": test accuracy ") == 12


@pytest.mark.timeout(600)
def test_a_full_disk_is_one_line_and_the_sweep_goes_on_when_there_is_room(small, tmp_path):
    """A real file system of 800 kB that runs full in the middle: of rows, models and checkpoints."""
    path, values = small
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=800k", "tmpfs", str(disk)], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"mounting a small tmpfs is not permitted here: {mounted.stderr.strip()}")
    try:
        own = [v for v in values if not v.startswith("paths.outputs")] + [f"paths.outputs={disk / 'outputs'}"]
        first = sweep(path, own)
        _, error = first.communicate()
        assert first.returncode == 1
        assert "No space left on device" in error
        assert "make room" in error
        assert len(error.strip().splitlines()) == 1, error
        store = Store(disk / "outputs")
        before = store.ids()
        assert 0 < len(before) < 10
        assert not list(store.runs.glob("*/failed.json"))
        subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
        second = sweep(path, own)
        assert second.communicate()[1] == ""
        assert second.returncode == 0
        assert len(store.ids()) == 10
        for run_id in store.ids():
            store.table(run_id)
        assert {p.suffix for p in store.rows.iterdir()} == {".json", ".parquet"}
    finally:
        subprocess.run(["umount", str(disk)], check=False)


@pytest.mark.timeout(600)
def test_workers_divide_the_cores_and_the_runs(small, tmp_path):
    path, values = small
    environment = {k: v for k, v in os.environ.items() if k != "OMP_NUM_THREADS"}
    process = sweep(path, values, "--workers", "2", env=environment)
    out, error = process.communicate()
    assert (process.returncode, error) == (0, "")
    store = Store(tmp_path / "outputs")
    rows = [store.row(run_id) for run_id in store.ids()]
    assert len(rows) == 10
    share = max(1, len(os.sched_getaffinity(0)) // 2)
    assert {row["provenance"]["threads"] for row in rows} == {share}
    # as typed, not the command that a worker was started with
    assert {tuple(row["provenance"]["argv"]) for row in rows} == {
        ("synthweight", *(word.replace(os.path.expanduser("~"), "~") for word in process.args[3:]))
    }
    assert f"2 workers with {share} threads each" in out
    assert "worker 1 [" in out
    assert "worker 2 [" in out
    assert out.count(": test accuracy ") == 10
