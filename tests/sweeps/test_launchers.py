"""The same sweep by every engine that is installed, for real: its rows, its failures, checkers first."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from support.cli import CLI
from synthweight.runs.store import Store

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def engine(name: str) -> None:
    pytest.importorskip(f"hydra_plugins.hydra_{name}_launcher", reason=f"the extra {name} is not installed")


@pytest.fixture
def launch(small, tmp_path):
    """Starts the sweep of tests/test_sweep.py with one seed, as a program, and returns its store with what it
    said.
    """
    path, values = small
    outputs = tmp_path / "outputs"

    def start(*overrides: str, code: int = 0) -> tuple[Store, str]:
        environment = os.environ | {"RAY_AUTH_MODE": "disabled"}
        command = [sys.executable, "-c", CLI, "sweep", str(path), *values, "seed=0", *overrides]
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment)
        assert done.returncode == code, done.stderr[-3000:]
        return Store(outputs), done.stdout + done.stderr

    return start


def expect(store: Store) -> list[dict]:
    """Four rows and the diversity checker, checkers ended before the others began."""
    rows = [store.row(run_id) for run_id in sorted(store.ids())]
    assert sorted(r["config"]["loss"]["name"] for r in rows) == ["ce", "ce", "dimp", "focal", "imp"]
    ended = max(r["provenance"]["finished"] for r in rows if r["config"]["loss"]["name"] == "ce")
    assert ended <= min(
        r["provenance"]["started"] for r in rows if r["config"]["loss"]["name"] in ("imp", "dimp")
    )
    for row in rows:
        store.table(row["id"])
    return rows


def test_joblib_with_two_processes(launch, tmp_path):
    engine("joblib")
    store, _ = launch("hydra/launcher=joblib", "hydra.launcher.n_jobs=2")
    expect(store)
    assert {p.name for p in tmp_path.iterdir()} <= {"outputs", "cache", "small.yaml"}


def test_submitit_locally(launch, tmp_path):
    engine("submitit")
    logs = f"hydra.launcher.submitit_folder={tmp_path}/outputs/submitit/%j"
    store, _ = launch("hydra/launcher=submitit_local", "hydra.launcher.timeout_min=10", logs)
    expect(store)
    assert list((tmp_path / "outputs" / "submitit").glob("*/*.pkl"))


def test_ray_on_a_cluster_of_two_nodes(launch):
    engine("ray")
    os.environ["RAY_AUTH_MODE"] = "disabled"
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    try:
        cluster.add_node(num_cpus=1)
        cluster.wait_for_nodes()
        store, said = launch("hydra/launcher=ray", f"+hydra.launcher.ray.init.address='{cluster.address}'",
                             "+hydra.launcher.ray.init.object_store_memory=null")  # fmt: skip
    finally:
        cluster.shutdown()
    expect(store)
    assert "onnect" in said


def test_a_failure_in_an_engines_process_is_recorded_and_listed(launch, tmp_path):
    engine("joblib")
    store, _ = launch("hydra/launcher=joblib", "hydra.launcher.n_jobs=2")
    checker = next(i for i in store.ids() if store.row(i)["config"]["source"]["name"] == "small_real")
    for run_id in store.ids():
        store.json_path(run_id).unlink()
    model = store.run_folder(checker) / "model"
    for file in model.iterdir():
        file.unlink()
    model.rmdir()
    Path(model).write_text("a file where the model's folder should be")
    store, said = launch("hydra/launcher=joblib", "hydra.launcher.n_jobs=2", code=1)
    assert "3 of 5 runs failed; the others are done:" in said
    assert "NotADirectoryError: [Errno 20] Not a directory" in said
    record = json.loads((store.run_folder(checker) / "failed.json").read_text())
    assert "save_model" in record["traceback"]
    assert len(store.ids()) == 2
