"""The policy as libgomp itself reports it, in every process that trains."""

import os
import re
import subprocess
import sys

import pytest

from support.cli import CLI
from synthweight.cli.wait_policy import SPIN, USERS, set_wait_policy

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
    assert environment == {"GOMP_SPINCOUNT": SPIN}


def test_the_function_that_launchers_call_is_imported_with_the_policy(libgomp):
    """A process of joblib, submitit or Ray unpickles it, and then imports torch."""
    unpickled = "import pickle, sys; pickle.loads(b'csynthweight.cli.hydra_app\\ntask\\n.')"
    code = f"{unpickled}; assert 'torch' not in sys.modules; import torch"
    assert set(reported(code)) == {SPIN}
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
    assert set(found) == {SPIN}
