import csv
from pathlib import Path

import pytest

from synthweight import run
from synthweight.store import Store


def test_csv_has_a_line_an_epoch(bound):
    job = bound("logger=csv")
    outcome = run.train(job)
    folder = Store(job.paths.outputs).run_folder(outcome.id)
    with (folder / "csv" / "metrics.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 2
    row = Store(job.paths.outputs).row(outcome.id)
    assert float(lines[0]["test/accuracy"]) == pytest.approx(row["epochs"][0]["test"]["accuracy"], abs=1e-6)


@pytest.mark.filterwarnings(
    "ignore::DeprecationWarning:wandb", "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)
def test_wandb_offline_one_run_each_and_finished_in_every_case(bound, monkeypatch):
    """Real offline files: two runs of one process are two runs, also after a failure."""
    import wandb

    from synthweight import module

    job = bound("logger=wandb")
    first = run.train(job).id
    assert wandb.run is None

    def broken(*_):
        raise RuntimeError("no luck")

    monkeypatch.setattr(module.Classifier, "training_step", broken)
    with pytest.raises(RuntimeError, match="no luck"):
        run.train(bound("logger=wandb", "seed=1"))
    assert wandb.run is None
    monkeypatch.undo()
    second = run.train(bound("logger=wandb", "seed=1")).id
    runs = Store(job.paths.outputs).runs
    files = {i: list(Path(runs / i).glob("wandb/offline-run-*/*.wandb")) for i in (first, second)}
    assert len(files[first]) == 1
    assert len(files[second]) == 2  # the failed try and the good one
    assert first in files[first][0].name


def test_csv_has_every_epoch_of_a_run_that_was_resumed(bound, monkeypatch):
    job = bound("logger=csv", "optim.epochs=3")
    note, calls = Store.note, []

    def stop(self, run_id, text):
        calls.append(text)
        if calls == ["epoch 1/3", "epoch 2/3"]:
            raise RuntimeError("no luck")
        note(self, run_id, text)

    monkeypatch.setattr(Store, "note", stop)
    with pytest.raises(RuntimeError, match="no luck"):
        run.train(job)
    outcome = run.train(job)
    assert calls == ["epoch 1/3", "epoch 2/3", "epoch 2/3", "epoch 3/3"]
    store = Store(job.paths.outputs)
    with (store.run_folder(outcome.id) / "csv" / "metrics.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert [line["epoch"] for line in lines] == ["0", "1", "2"]
    for line, epoch in zip(lines, store.row(outcome.id)["epochs"], strict=True):
        assert float(line["test/accuracy"]) == pytest.approx(epoch["test"]["accuracy"], abs=1e-6)
