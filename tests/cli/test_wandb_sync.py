"""Rows that were made before, sent to W&B: what a live run would have said, once."""

import pyarrow as pa
import pytest

from support.cli import run_cli
from support.wandb_files import NOISE, files, read
from synthweight.cli import wandb_sync
from synthweight.runs import run
from synthweight.runs.store import Store
from synthweight.tracking import wandb as tracking_wandb

pytestmark = NOISE


@pytest.fixture
def swept(tmp_path, settings, bound):
    """A sweep of two runs, the first one done; its command line; its store and the row's id."""
    path = tmp_path / "mine.yaml"
    path.write_text(
        "defaults: [config, {override dataset: local}, _self_]\n"
        'hydra:\n  mode: MULTIRUN\n  sweeper:\n    blocks: [{loss: dimp, seed: "0,1"}]\n'
    )
    values = [s for s in settings if not s.startswith("dataset=")]

    def make(*overrides: str):
        job = bound("loss=dimp", *overrides)
        return ["wandb", "sync", str(path), *values], Store(job.paths.outputs), run.train(job).id

    return make


def test_a_row_says_offline_what_the_live_run_said_and_says_it_once(swept, capfd):
    command, store, run_id = swept("logger=wandb", "logger.group=mine")
    (file,) = files(store.run_folder(run_id))
    live = read(file)
    assert run_cli(*command) == 0
    assert "there already" in capfd.readouterr().out  # the live run's own files
    (file.parent / tracking_wandb.MARK).unlink()
    file.unlink()
    (store.run_folder(run_id) / ".wandb-row.vm-1.part").mkdir()  # of one that was killed
    for said in ("written", "there already"):
        assert run_cli(*command) == 0
        out = capfd.readouterr().out
        assert f"[1/1] local synthetic dimp tiny seed 0 ({run_id}): {said}" in out
        assert f"W&B: 1 {said}" in out
        assert f"wandb sync {store.runs}/*/wandb/offline-run-* uploads them" in out
        assert "not run yet: 1 (local synthetic dimp tiny seed 1 " in out
    (again,) = files(store.run_folder(run_id))
    sent = read(again)
    keys = ("run_id", "run_group", "job_type", "project", "display_name", "tags")
    assert {key: sent.run[key] for key in keys} == {key: live.run[key] for key in keys}
    assert (sent.history, sent.config, sent.summary) == (live.history, live.config, live.summary)
    assert not list(store.run_folder(run_id).glob(".*.part"))


def test_online_a_row_is_sent_once_and_again_where_the_server_has_another(swept, fresh_wandb, capfd, server):
    command, store, run_id = swept()
    assert run_cli(*command) == 0
    assert f"({run_id}): uploaded" in capfd.readouterr().out
    sent, row = server.runs[run_id], store.row(run_id)
    assert (sent["state"], sent["groupName"], sent["jobType"]) == ("finished", "mine", "dimp")
    lines = sent["files"]["wandb-history.jsonl"]
    assert [lines[i]["selection/nll"] for i in (0, 1)] == pytest.approx(
        [e["selection"]["nll"] for e in row["epochs"]]
    )
    asked = server.asked.count("UpsertBucket")
    assert run_cli(*command) == 0
    assert f"({run_id}): there already" in capfd.readouterr().out
    assert server.asked.count("UpsertBucket") == asked
    sent["state"] = "crashed"  # it was killed in the middle
    assert run_cli(*command) == 0
    assert f"({run_id}): uploaded" in capfd.readouterr().out
    assert len(lines) == 2
    server.close()
    assert not files(store.run_folder(run_id))


def test_a_few_shot_row_has_a_card():
    config = {"dataset": {"name": "mrpc"}, "generator": {"model": "m/" + "x" * 80}, "shots": 8, "seed": 1}
    card = tracking_wandb.RunCard.from_config("a", config, "p", None)
    assert (card.job_type, card.group, card.name) == ("prompt", "train", "prompt-8-shot-1")
    assert max(map(len, card.tags)) == 64


def test_what_cannot_be_asked_for_is_one_line(capfd):
    assert run_cli("wandb", "sync") == 2
    assert "wandb sync needs the name of a sweep" in capfd.readouterr().err
    assert run_cli("wandb", "sync", "nosuch") == 2
    assert "nosuch: no such sweep; there are" in capfd.readouterr().err
    assert run_cli("wandb", "upload") == 2
    assert "sync" in capfd.readouterr().err


def test_a_few_shot_row_is_drawn_as_one_epoch():
    metrics = {"accuracy": 0.5, "macro_f1": 0.4, "nll": 1.0, "ece": 0.1, "per_class": {}}
    row = {
        "config": {"shots": 8},
        "epochs": [{"epoch": 1, "train_loss": None, "selection": None, "test": metrics}],
    }
    table = pa.table({"split": ["test"], "epoch": [1], "weight": pa.array([None], pa.float32())})
    ((scalars, weights),) = wandb_sync.epochs(row, table)
    assert scalars["test/accuracy"] == 0.5
    assert len(weights) == 0
