import csv
import struct
from pathlib import Path

import numpy as np
import pytest

from synthweight.errors import UserError
from synthweight.runs import run
from synthweight.runs.store import Store
from synthweight.tracking import loggers


def train(job) -> tuple[Path, dict, Store]:
    outcome = run.train(job)
    store = Store(job.paths.outputs)
    return store.run_folder(outcome.id), store.row(outcome.id), store


def test_csv_has_a_line_an_epoch(bound):
    folder, row, _ = train(bound("logger=csv", "trainer.test=epoch"))
    with (folder / "csv" / "metrics.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 2
    assert float(lines[0]["test/accuracy"]) == pytest.approx(row["epochs"][0]["test"]["accuracy"], abs=1e-6)
    assert float(lines[1]["weights/mean"]) == 1  # of cross-entropy


def events(file: Path):
    """The records of a TensorBoard file: length, its checksum, the event, its checksum."""
    from tensorboardX.proto.event_pb2 import Event

    data, place = file.read_bytes(), 0
    while place < len(data):
        (length,) = struct.unpack_from("<Q", data, place)
        yield Event.FromString(data[place + 12 : place + 12 + length])
        place += length + 16


def test_tensorboard_has_curves_and_weight_histograms(bound):
    folder, row, store = train(bound("logger=tensorboard", "loss=dimp", "trainer.test=epoch"))
    (file,) = (folder / "tensorboard").glob("events*")
    values = [(event.step, value) for event in events(file) for value in event.summary.value]
    accuracy = [value.simple_value for _, value in values if value.tag == "test/accuracy"]
    assert accuracy == pytest.approx([epoch["test"]["accuracy"] for epoch in row["epochs"]])
    assert {"train/loss", "selection/macro_f1", "weights/mean", "weights/std"} <= {
        value.tag for _, value in values
    }
    histograms = {step: value.histo for step, value in values if value.tag == "weights/histogram"}
    assert set(histograms) == {1, 2}
    table = store.table(row["id"]).to_pandas().query("split == 'train' and epoch == 2")
    assert histograms[2].num == len(table)
    assert histograms[2].sum == pytest.approx(table["weight"].sum(), rel=1e-5)


def test_csv_has_every_epoch_of_a_run_that_was_resumed(bound, monkeypatch):
    job = bound("logger=csv", "optim.epochs=3")
    set_status, calls = Store.set_status, []

    def stop(self, run_id, text):
        calls.append(text)
        if calls == ["epoch 1/3", "epoch 2/3"]:
            raise RuntimeError("no luck")
        set_status(self, run_id, text)

    monkeypatch.setattr(Store, "set_status", stop)
    with pytest.raises(RuntimeError, match="no luck"):
        run.train(job)
    outcome = run.train(job)
    assert calls == ["epoch 1/3", "epoch 2/3", "epoch 2/3", "epoch 3/3"]
    store = Store(job.paths.outputs)
    with (store.run_folder(outcome.id) / "csv" / "metrics.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert [line["epoch"] for line in lines] == ["0", "1", "2"]
    for line, epoch in zip(lines, store.row(outcome.id)["epochs"], strict=True):
        assert float(line["selection/accuracy"]) == pytest.approx(epoch["selection"]["accuracy"], abs=1e-6)
        assert "test/accuracy" not in line


def test_a_logger_without_its_package_is_said_before_anything_is_trained(bound, monkeypatch):
    monkeypatch.setattr(loggers, "find_spec", lambda _: None)
    with pytest.raises(UserError, match=r"pip install -e \.\[tensorboard\]"):
        run.train(bound("logger=tensorboard"))
    assert not Path(bound().paths.outputs).exists()


def test_a_model_that_is_made_again_is_no_new_run(bound):
    """The row stands: nobody looks on."""
    folder, row, store = train(bound("logger=csv", "loss=ce"))
    (folder / "csv" / "metrics.csv").unlink()
    from synthweight.runs.identity import identify

    run.fit_run(store, identify(bound("logger=csv", "loss=ce")), "again", write_row=False)
    assert not (folder / "csv" / "metrics.csv").exists()
    assert np.isfinite(row["seconds"]["train"])
