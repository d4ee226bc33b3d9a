"""The policy as libgomp itself reports it, in every process that trains."""

import os
import re
import subprocess
import sys
import time

import pytest

from support.cli import CLI
from synthweight.cli import wait_policy
from synthweight.cli.wait_policy import BUSY_SPIN, IDLE_SPIN, USERS, machine_is_busy, set_wait_policy

SPINS = {BUSY_SPIN, IDLE_SPIN}
OTHER = "import threadpoolctl, torch; print([i['prefix'] for i in threadpoolctl.threadpool_info() if i['user_api'] == 'openmp'])"


@pytest.fixture(scope="module")
def libgomp() -> None:
    found = subprocess.run([sys.executable, "-c", OTHER], capture_output=True, text=True, check=True).stdout
    if "libgomp" not in found:
        pytest.skip(f"this torch computes with {found.strip()}, which does not know GOMP_SPINCOUNT")


def reported(code: str, *arguments: str, **variables: str) -> list[str]:
    """The spin counts that the OpenMP libraries of a program and of its children write as they are loaded."""
    kept = {key: value for key, value in os.environ.items() if key not in USERS}
    environment = kept | {"OMP_DISPLAY_ENV": "verbose"} | variables
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return re.findall(r"GOMP_SPINCOUNT = '(\d+)'", done.stderr)


def test_the_users_own_policy_is_respected():
    for name in USERS:
        environment = {name: "1"}
        set_wait_policy(environment)
        assert environment == {name: "1"}
    environment = {}
    set_wait_policy(environment)
    assert environment["GOMP_SPINCOUNT"] in SPINS


@pytest.mark.skipif(sys.platform != "linux", reason="/proc/loadavg")
def test_a_busy_machine_gets_the_shorter_spin():
    processes = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(os.cpu_count())]
    try:
        time.sleep(0.5)
        assert machine_is_busy()
        environment = {}
        set_wait_policy(environment)
        assert environment == {"GOMP_SPINCOUNT": BUSY_SPIN}
    finally:
        for process in processes:
            process.kill()
            process.wait()


@pytest.mark.parametrize(
    ("running", "busy"), [([1, 1, 1, 1], False), ([2, 2, 3, 2], True), ([9, 9, 1, 9], False)]
)
def test_only_what_runs_all_the_time_counts(monkeypatch, tmp_path, running, busy):
    looks = iter(running)
    load = tmp_path / "loadavg"

    def look(_):
        load.write_text(f"0.20 0.18 0.12 {next(looks, 1)}/80 11206\n")

    look(0)
    monkeypatch.setattr(wait_policy, "LOAD", load)
    monkeypatch.setattr(wait_policy.time, "sleep", look)
    monkeypatch.setattr(os, "cpu_count", lambda: len(os.sched_getaffinity(0)))
    assert machine_is_busy() == busy


def test_the_function_that_launchers_call_is_imported_with_the_policy(libgomp):
    """A process of joblib, submitit or Ray unpickles it, and then imports torch."""
    unpickled = "import pickle, sys; pickle.loads(b'csynthweight.cli.hydra_app\\ntask\\n.')"
    code = f"{unpickled}; assert 'torch' not in sys.modules; import torch"
    (spin,) = set(reported(code))
    assert spin in SPINS
    assert set(reported(code, GOMP_SPINCOUNT="77")) == {"77"}
    assert set(reported("import torch")) == {"300000"}  # what a change of libgomp's own would tell


@pytest.mark.slow
def test_workers_and_the_processes_of_a_run_have_the_policy(libgomp, small):
    """The command, two workers, and the second process of the run that each of them trains on two devices."""
    path, values = small
    found = reported(
        CLI, "sweep", str(path), *values, "loss=ce", "source=synthetic", "trainer.devices=2", "--workers", "2"
    )
    assert len(found) >= 5
    (spin,) = set(found)
    assert spin in SPINS
