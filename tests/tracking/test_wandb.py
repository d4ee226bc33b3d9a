"""Real runs at W&B: offline files read back by its own reader, and a server on loopback that takes or
refuses.
"""

import os
import signal
from pathlib import Path

import pytest
import wandb

from support.logs import logged
from support.wandb_files import NOISE, files, read
from support.wandb_server import KEY, Server
from synthweight.cli import main
from synthweight.runs import run
from synthweight.runs.store import Store
from synthweight.tracking import wandb as tracking_wandb
from synthweight.training import history, module

pytestmark = NOISE


def store_of(job) -> Store:
    return Store(job.paths.outputs)


def test_an_offline_run_says_what_its_row_says(bound):
    job = bound("logger=wandb", "loss=dimp", "logger.group=table1")
    run_id = run.train(job).id
    assert wandb.run is None
    (file,) = files(store_of(job).run_folder(run_id))
    found, row = read(file), store_of(job).row(run_id)
    assert {
        key: found.run[key] for key in ("run_id", "run_group", "job_type", "project", "display_name")
    } == {
        "run_id": run_id,
        "run_group": "table1",
        "job_type": "dimp",
        "project": "synthweight",
        "display_name": "dimp-synthetic-0",
    }
    assert set(found.run["tags"]) == {"local", "synthetic", "tiny"}
    assert {key: found.config[key] for key in row["config"]} == row["config"]
    assert {key: found.config[key] for key in tracking_wandb.ROW_CONFIG} == {
        key: row[key] for key in tracking_wandb.ROW_CONFIG
    }
    assert [line["epoch"] for line in found.history] == [1, 2]
    for line, epoch in zip(found.history, row["epochs"], strict=True):
        for key in ("accuracy", "macro_f1", "nll"):
            assert line[f"selection/{key}"] == pytest.approx(epoch["selection"][key])
            assert f"test/{key}" not in line  # evaluated once, after the last epoch
        assert line["train/loss"] == pytest.approx(epoch["train_loss"])
        weights = (
            store_of(job)
            .table(run_id)
            .to_pandas()
            .query(f"split == 'train' and epoch == {epoch['epoch']}")["weight"]
        )
        assert line["weights/mean"] == pytest.approx(weights.mean())
        assert sum(line["weights/histogram.values"]) == len(weights)
        assert line["weights/histogram.bins"][-1] == pytest.approx(weights.max())
    chosen = row["epochs"][row["selected_epoch"] - 1]["test"]
    final = {
        "selected_epoch": row["selected_epoch"],
        "test/accuracy": chosen["accuracy"],
        "test/macro_f1": chosen["macro_f1"],
    }
    final |= {f"seconds/{key}": value for key, value in row["seconds"].items()}
    assert {key: found.summary[key] for key in final} == pytest.approx(final)
    assert found.exit_code == 0


def test_the_summary_is_of_the_epoch_that_stands(bound, monkeypatch):
    """Not of the last one, whose curves are the last that W&B hears of."""
    monkeypatch.setattr(history.TrainingHistory, "selected", property(lambda self: 0))
    job = bound("logger=wandb", "optim.epochs=3", "trainer.test=epoch")
    run_id = run.train(job).id
    (file,) = files(store_of(job).run_folder(run_id))
    found, row = read(file), store_of(job).row(run_id)
    assert row["selected_epoch"] == 1 == found.summary["selected_epoch"]
    assert row["epochs"][0]["test"]["nll"] != row["epochs"][2]["test"]["nll"]
    assert found.summary["test/nll"] == pytest.approx(row["epochs"][0]["test"]["nll"])


def test_a_failed_run_is_shown_as_failed_and_the_next_one_is_its_own(bound, monkeypatch):
    def broken(*_):
        raise RuntimeError("no luck\nat all")

    job = bound("logger=wandb")
    with monkeypatch.context() as patch:
        patch.setattr(module.ClassifierModule, "training_step", broken)
        with pytest.raises(RuntimeError, match="no luck"):
            run.train(job)
    assert wandb.run is None
    run_id = run.train(job).id
    failed, good = map(read, files(store_of(job).run_folder(run_id)))
    assert (failed.exit_code, good.exit_code) == (1, 0)
    assert failed.summary["exception"] == "RuntimeError: no luck"
    assert "exception" not in good.summary
    assert failed.run["run_id"] == good.run["run_id"] == run_id


def test_a_sweep_is_a_group_and_its_checkers_are_in_it(tmp_path, settings):
    path = tmp_path / "mine.yaml"
    path.write_text(
        "defaults: [config, {override dataset: local}, _self_]\n"
        "hydra:\n  mode: MULTIRUN\n  sweeper:\n    blocks: [{loss: quality_only}]\n"
    )
    values = [s for s in settings if not s.startswith(("logger", "dataset="))]
    main.main(["sweep", str(path), *values, "logger=wandb"])
    store = Store(next(v for v in values if v.startswith("paths.outputs")).split("=")[1])
    found = {i: read(files(store.run_folder(i))[0]).run for i in store.ids()}
    assert [said["run_group"] for said in found.values()] == ["mine"] * 2
    assert {said["job_type"] for said in found.values()} == {"quality_only", "ce"}
    main.main(["train", *settings, "logger=wandb", "seed=3"])
    (alone,) = store.ids() - set(found)
    assert read(files(store.run_folder(alone))[0]).run["run_group"] == "train"


def test_without_a_key_runs_are_offline_and_it_is_said_once(bound, fresh_wandb, caplog):
    caplog.set_level("INFO", "synthweight")
    job = bound("logger=wandb")
    for seed in (0, 1):
        job.seed = seed
        run.train(job)
    assert caplog.text.count("W&B: no key") == 1
    assert sum(len(files(store_of(job).run_folder(i))) for i in store_of(job).ids()) == 2


@pytest.mark.parametrize("status", [401, 403])
def test_a_key_that_is_refused_is_one_warning_and_the_runs_go_on_offline(bound, fresh_wandb, status, capfd):
    server = Server(refuse=status)
    fresh_wandb.setenv("WANDB_BASE_URL", server.url)
    fresh_wandb.setenv("WANDB_API_KEY", KEY)
    job = bound("logger=wandb")
    with logged(r"user is not logged in\): the runs go on offline") as messages:
        for seed in (0, 1):
            job.seed = seed
            run.train(job)
    server.close()
    ours = [message for message in messages if "W&B" in message]
    assert len(ours) == 1
    assert server.asked
    # wandb itself says nothing
    assert [line for line in capfd.readouterr().err.splitlines() if ours[0] not in line] == []
    assert len(store_of(job).ids()) == 2
    assert sum(len(files(store_of(job).run_folder(i))) for i in store_of(job).ids()) == 2


def test_a_server_that_is_not_there_is_one_warning(bound, fresh_wandb):
    fresh_wandb.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    fresh_wandb.setenv("WANDB_API_KEY", KEY)
    fresh_wandb.setenv("WANDB_HTTP_TIMEOUT", "1")
    job = bound("logger=wandb")
    with logged(r"W&B cannot be used online \(.*127\.0\.0\.1:9.*\): the runs go on offline"):
        run_id = run.train(job).id
    assert store_of(job).exists(run_id)
    assert len(files(store_of(job).run_folder(run_id))) == 1


def test_a_server_that_takes_the_key_but_not_the_run(bound, fresh_wandb, server):
    """It goes away, or forbids the project: the first word of it comes when the run is opened."""
    assert tracking_wandb.session.mode() == "online"
    server.refuse = 403
    job = bound("logger=wandb")
    with logged("the runs go on offline"):
        run_id = run.train(job).id
    server.close()
    assert store_of(job).exists(run_id)
    assert len(files(store_of(job).run_folder(run_id))) == 1


def test_online_the_server_has_the_run(bound, fresh_wandb, server):
    job = bound("logger=wandb", "loss=focal", "logger.group=table1")
    run_id = run.train(job).id
    server.close()
    row, sent = store_of(job).row(run_id), server.runs[run_id]
    assert (sent["state"], sent["groupName"], sent["jobType"]) == ("finished", "table1", "focal")
    lines = sent["files"]["wandb-history.jsonl"]
    accuracies = [e["selection"]["accuracy"] for e in row["epochs"]]
    assert [lines[i]["selection/accuracy"] for i in (0, 1)] == pytest.approx(accuracies)


def test_online_a_run_that_failed_and_is_tried_again_is_one_run(bound, fresh_wandb, server):
    """Its epochs are there once, the reason of the failure is gone."""
    epochs = []

    def broken(self, number, *arguments):
        epochs.append(number)
        if number == 2:
            raise RuntimeError("no luck")
        return note(self, number, *arguments)

    note = tracking_wandb.LiveRun.log_epoch
    fresh_wandb.setattr(tracking_wandb.LiveRun, "log_epoch", broken)
    job = bound("logger=wandb")
    with pytest.raises(RuntimeError, match="no luck"):
        run.train(job)
    fresh_wandb.setattr(tracking_wandb.LiveRun, "log_epoch", note)
    (sent,) = server.runs.values()
    assert sent["state"] == "failed"
    assert list(sent["files"]["wandb-summary.json"].values())[-1]["exception"] == "RuntimeError: no luck"
    run_id = run.train(job).id
    server.close()
    assert server.runs == {run_id: sent}
    assert sent["state"] == "finished"
    assert [line["epoch"] for line in sent["files"]["wandb-history.jsonl"].values()] == [1, 2]
    assert "exception" not in list(sent["files"]["wandb-summary.json"].values())[-1]


def services() -> list[int]:
    """The processes that W&B has started from here."""
    stats = [path.read_text() for path in Path("/proc").glob("[0-9]*/stat") if path.exists()]
    fields = [
        (stat.split(" (")[0], stat.rpartition(")")[2].split()) for stat in stats if "(wandb-core)" in stat
    ]
    return [int(pid) for pid, rest in fields if int(rest[1]) == os.getpid()]


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for W&B's service in /proc")
def test_when_wandbs_service_is_killed_the_training_goes_on_and_the_next_run_has_its_own(bound, monkeypatch):
    """The machine runs out of memory, say."""
    epoch = tracking_wandb.LiveRun.log_epoch

    def killed(self, *arguments):
        for pid in services():
            os.kill(pid, signal.SIGKILL)
        epoch(self, *arguments)

    job = bound("logger=wandb")
    monkeypatch.setattr(tracking_wandb.LiveRun, "log_epoch", killed)
    with logged("^W&B: .*: the run goes on without it") as caught:
        run_id = run.train(job).id
    monkeypatch.setattr(tracking_wandb.LiveRun, "log_epoch", epoch)
    assert len([w for w in caught if "goes on" in w]) == 1
    assert store_of(job).exists(run_id)
    second = run.train(bound("logger=wandb", "seed=1")).id
    (file,) = files(store_of(job).run_folder(second))
    assert read(file).exit_code == 0


def test_a_server_that_goes_away_in_the_middle_holds_no_run_for_long(bound, fresh_wandb, server):
    """What it did not get lies on disk."""
    fresh_wandb.setattr(tracking_wandb, "FINISH", 1)
    epoch = tracking_wandb.LiveRun.log_epoch

    def closed(self, *arguments):
        server.refuse = 500
        epoch(self, *arguments)

    fresh_wandb.setattr(tracking_wandb.LiveRun, "log_epoch", closed)
    job = bound("logger=wandb")
    with logged("^W&B: .*: the run goes on without it"):
        run_id = run.train(job).id
    server.close()
    (file,) = store_of(job).run_folder(run_id).glob("wandb/run-*/*.wandb")
    assert len(read(file).history) == 2
