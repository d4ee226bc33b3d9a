"""Expansion, plan, waves, failures."""

import json
import re

from support.cli import run_cli
from synthweight.config import compose
from synthweight.runs.store import Store
from synthweight.sweeps import grid, plan


def test_plan_adds_checkers_first_and_counts_rows(small):
    path, values = small
    with compose.offline(path.parent):
        composer = compose.Composer(path.stem)
        planned = plan.plan_sweep(composer, grid.blocks_of(composer), values)
    assert len(planned.rows) == 8
    added = [job for job in planned.jobs if not job.row]
    assert [(j.identity.run.loss.name, j.identity.run.source.name, j.identity.run.seed) for j in added] == [
        ("ce", "synthetic", 0), ("ce", "synthetic", 1),
    ]  # fmt: skip
    assert [j.identity.run.loss.name for j in planned.todo[:4]] == ["ce"] * 4
    assert len(planned.todo) == 10


def test_a_sweep_runs_what_is_missing_and_then_nothing(small, capfd):
    path, values = small
    outputs = next(v for v in values if v.startswith("paths.outputs")).split("=")[1]
    assert run_cli("sweep", str(path), *values, "seed=0") == 0
    store = Store(outputs)
    assert len(store.ids()) == 5  # four rows and the diversity checker
    out = capfd.readouterr().out
    order = [m[1] for m in re.finditer(r"local (\w+ \w+) tiny seed 0: epoch 1/", out)]
    assert set(order[:2]) == {"small_real ce", "synthetic ce"}
    assert "[1/5] " in out
    assert "[5/5] " in out
    stamps = {p: p.stat().st_mtime_ns for p in store.rows.iterdir()}
    assert run_cli("sweep", str(path), *values, "seed=0") == 0
    assert "nothing to do" in capfd.readouterr().out
    assert stamps == {p: p.stat().st_mtime_ns for p in store.rows.iterdir()}

    assert run_cli("tables", str(path), *values, "seed=0") == 0
    table = capfd.readouterr().out
    assert "| synthetic | dimp | " in table
    assert "One seed, no spread" in table
    assert "±" not in table
    assert run_cli("tables", str(path), *values) == 2
    assert re.search(
        r"4 of 8 runs have no row, first \w{16} \(local small_real ce seed 1\)", capfd.readouterr().err
    )
    assert run_cli("tables", str(path), "--partial", *values) == 0
    assert "[1 missing]" in capfd.readouterr().out
    assert run_cli("plan", str(path), *values) == 0
    assert "Jobs: 8; done 4, to do 5 with their checkers" in capfd.readouterr().out


def test_a_bad_job_stops_the_sweep_before_the_first_run(small, capfd):
    path, values = small
    assert run_cli("sweep", str(path), *values, "loss=dimp,nothing") == 2
    assert "loss=nothing: unknown" in capfd.readouterr().err
    outputs = next(v for v in values if v.startswith("paths.outputs")).split("=")[1]
    assert Store(outputs).ids() == set()


def test_a_failure_leaves_the_others_running_and_is_listed(small, capfd, monkeypatch):
    from synthweight.runs import run

    path, values = small
    fit_run = run.fit_run

    def broken(store, identity, name):
        if identity.run.source.name == "small_real":
            raise RuntimeError("no luck")
        fit_run(store, identity, name)

    monkeypatch.setattr(run, "fit_run", broken)
    assert run_cli("sweep", str(path), *values, "seed=0") == 1
    error = capfd.readouterr().err
    assert "3 of 5 runs failed" in error
    assert "RuntimeError: no luck" in error
    assert "dimp tiny seed 0: CheckerFailedError" in error
    outputs = next(v for v in values if v.startswith("paths.outputs")).split("=")[1]
    store = Store(outputs)
    assert {store.row(i)["config"]["loss"]["name"] for i in store.ids()} == {"ce", "focal"}
    failed = [json.loads(p.read_text()) for p in store.runs.glob("*/failed.json")]
    assert len(failed) == 3


def test_multirun_of_train(settings, capfd):
    outputs = next(v for v in settings if v.startswith("paths.outputs")).split("=")[1]
    assert run_cli("train", "-m", "loss=ce,focal", "seed=0,1", "optim.epochs=1", *settings) == 0
    assert len(Store(outputs).ids()) == 4


def test_hydra_leaves_nothing_behind(settings, capfd, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run_cli("train", "optim.epochs=1", *settings) == 0
    assert sorted(p.name for p in tmp_path.iterdir()) == ["cache", "outputs"]


def test_an_empty_sweep_is_refused(tmp_path, capfd):
    path = tmp_path / "empty.yaml"
    path.write_text("defaults: [config, _self_]\nhydra: {mode: MULTIRUN}\n")
    for command in ("plan", "sweep", "tables"):
        assert run_cli(command, str(path)) == 2
        assert "hydra.sweeper.blocks is empty" in capfd.readouterr().err


def test_a_misspelt_key_in_a_sweeps_file_is_named(tmp_path, capfd):
    path = tmp_path / "bad.yaml"
    path.write_text(
        "defaults: [config, _self_]\nsed: 3\nhydra: {mode: MULTIRUN, sweeper: {blocks: [{loss: ce}]}}\n"
    )
    for command in ("plan", "sweep"):
        assert run_cli(command, str(path)) == 2
        assert "sed: no such setting; did you mean seed?" in capfd.readouterr().err
    path.write_text("defaults: [config, _self_\n")
    assert run_cli("plan", str(path)) == 2
    error = capfd.readouterr().err
    assert "broken YAML" in error
    assert len(error.strip().splitlines()) == 1


def test_a_launcher_changes_no_plan(small, capfd):
    path, values = small
    assert run_cli("plan", str(path), *values, "hydra/launcher=basic", "hydra.launcher.x=1") == 0
    assert "Jobs: 8" in capfd.readouterr().out


def test_a_users_own_model_name_in_a_sweep(settings, capfd):
    outputs = next(v for v in settings if v.startswith("paths.outputs")).split("=")[1]
    assert run_cli("train", "-m", "loss=dimp", "model.name=mine", "optim.epochs=1", *settings) == 0
    store = Store(outputs)
    assert {store.row(i)["config"]["model"]["name"] for i in store.ids()} == {"mine"}
