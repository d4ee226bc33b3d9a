"""The dashboard: its panels name what runs log; it is saved once."""

import json

import pytest

from support.cli import run_cli
from support.wandb_files import NOISE, files, read
from synthweight.cli import wandb_dashboard
from synthweight.errors import UserError
from synthweight.runs import run
from synthweight.runs.store import Store

pytestmark = NOISE


def panels(spec) -> dict[str, list[dict]]:
    sections = spec["section"]["panelBankConfig"]["sections"]
    return {section["name"]: section["panels"] for section in sections}


def keys(panel) -> list[str]:
    config = panel["config"]
    axis = [config["xAxis"]] if "xAxis" in config else []
    return [*axis, *config.get("metrics", []), *config.get("mediaKeys", [])]


def test_every_panel_names_what_a_run_logs(bound):
    job = bound("logger=wandb", "loss=dimp")
    run_id = run.train(job).id
    found = read(files(Store(job.paths.outputs).run_folder(run_id))[0])
    logged = {key.split(".")[0] for values in [found.summary, *found.history] for key in values}
    spec = wandb_dashboard.specification(wandb_dashboard.workspace("me", "p", "table1"))
    shown = panels(spec)
    assert list(shown) == ["dynamics", "table1", "weights", "timing"]
    for section, listed in shown.items():
        assert listed
        for panel in listed:
            assert set(keys(panel)) - {"_step"} <= logged, section
    drawn = {key for listed in shown.values() for panel in listed for key in keys(panel)}
    assert {f"seconds/{key}" for key in Store(job.paths.outputs).row(run_id)["seconds"]} <= drawn
    assert {key for key in found.history[0] if key.startswith(("test/", "selection/", "train/"))} <= drawn
    runs = spec["section"]["runSets"][0]
    assert '"name": "group"' in json.dumps(runs["filters"])
    assert '"value": "table1"' in json.dumps(runs["filters"])
    assert ["loss.value.name" in json.dumps(key) for key in runs["grouping"]] == [False, False, True]


@pytest.mark.parametrize("arguments", [["--json"], []])
def test_without_a_key_it_is_a_file(arguments, settings, fresh_wandb, capfd, tmp_path):
    assert (
        run_cli("wandb", "dashboard", "table1", *arguments, *(s for s in settings if s.startswith("paths")))
        == 0
    )
    out, error = capfd.readouterr()
    assert ("W&B: no key" in error) == (arguments == [])
    path = tmp_path / "outputs" / "wandb-dashboard-table1.json"
    assert str(path) in out
    assert list(panels(json.loads(path.read_text())["spec"])) == ["dynamics", "table1", "weights", "timing"]


def test_a_sweeps_own_project_group_and_outputs_count(fresh_wandb, capfd, tmp_path):
    sweep, own = tmp_path / "mine.yaml", tmp_path / "own"
    block = f"{{dataset: local, dataset.path: d, paths.outputs: {own}, logger.project: theirs, logger.group: of/one, seed: '0,1'}}"
    sweep.write_text(
        f"defaults: [config, _self_]\nhydra: {{mode: MULTIRUN, sweeper: {{blocks: [{block}]}}}}\n"
    )
    assert run_cli("wandb", "dashboard", str(sweep), "--json") == 0
    saved = json.loads((own / "wandb-dashboard-of_one.json").read_text())
    assert saved["project"] == "theirs"
    assert '"value": "of/one"' in json.dumps(saved["spec"])
    assert (
        run_cli(
            "wandb", "dashboard", str(sweep), "--json", "logger.project=a", f"paths.outputs={tmp_path / 'b'}"
        )
        == 0
    )
    assert json.loads((tmp_path / "b" / "wandb-dashboard-of_one.json").read_text())["project"] == "a"
    sweep.write_text(sweep.read_text().replace("theirs", "'x,y'"))
    assert run_cli("wandb", "dashboard", str(sweep), "--json") == 2
    assert (
        "its runs have several logger.project (x, y): give one of them, logger.project=x"
        in capfd.readouterr().err
    )


def test_saved_again_it_replaces_what_was_saved(settings, fresh_wandb, capfd, server):
    command = ["wandb", "dashboard", *(s for s in settings if s.startswith("paths"))]
    for _ in range(2):
        assert run_cli(*command) == 0
        assert f"W&B: {server.url}/me/synthweight?nw=" in capfd.readouterr().out
    (view,) = server.views.values()
    assert view["id"] == "view1"  # the second time it said which one it means
    assert list(panels(json.loads(view["spec"]))) == ["dynamics", "table1", "weights", "timing"]
    server.refuse = 403
    assert run_cli(*command) == 2
    assert "W&B does not accept the key (" in capfd.readouterr().err
    with pytest.raises(UserError, match="W&B does not take the dashboard: .*--json"):
        wandb_dashboard.save(wandb_dashboard.workspace("me", "p", None), {})
    server.close()


def test_without_its_package_it_is_one_line(settings, monkeypatch, capfd):
    import sys

    monkeypatch.setitem(sys.modules, "wandb_workspaces.workspaces", None)
    assert run_cli("wandb", "dashboard", "--json", *(s for s in settings if s.startswith("paths"))) == 2
    assert "pip install -e .[dashboard]" in capfd.readouterr().err
