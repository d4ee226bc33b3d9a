"""A training that is killed and continues: the same digits, whole checkpoints or none, no pickled code."""

import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from support.cli import CLI
from support.toy import make_encoder
from support.training import RecordingReporter, fit_until, training_job
from synthweight import atomic_io
from synthweight.errors import disk_full
from synthweight.runs import run
from synthweight.runs.identity import identify
from synthweight.runs.store import Store
from synthweight.training import devices, trainer
from synthweight.training.checkpoint import Checkpoints

LOSSES = [
    "ce",
    "focal",
    "imp",
    "dimp",
    "rho",
    "filter",
    "hu loss.exact=false",
    "hu",
    "ren",
    "sungen loss.outer_steps=3",
]
MORE = [
    "ce trainer.precision=64-true",
    "ce trainer.precision=bf16-mixed",
    "rho trainer.batching=random",
    "imp trainer.padding=true",
]


@pytest.fixture
def training(bound):
    """All that one training of four epochs is made of; checkers' scores are drawn."""

    def make(*overrides):
        job = bound("optim.epochs=4", *overrides)
        return training_job(job)

    return make


@pytest.fixture
def checkpoints(tmp_path):
    return Checkpoints(tmp_path / "run", {"id": "a"})


def same(one, other):
    assert [e.train_loss for e in one.epochs] == [e.train_loss for e in other.epochs]
    assert [e.metrics for e in one.epochs] == [e.metrics for e in other.epochs]
    for a, b in zip(one.epochs, other.epochs, strict=True):
        np.testing.assert_array_equal(a.weights, b.weights)
        assert a.log_probs.keys() == b.log_probs.keys()
        for name in a.log_probs:
            np.testing.assert_array_equal(a.log_probs[name], b.log_probs[name])
    assert (one.selected, one.guard_hits) == (other.selected, other.guard_hits)
    torch.testing.assert_close(one.network.state_dict(), other.network.state_dict(), rtol=0, atol=0)


@pytest.mark.parametrize("loss", [*LOSSES, *MORE, "ce trainer.test=epoch"])
def test_stopped_and_resumed_equals_uninterrupted(training, checkpoints, loss):
    """To the digit, dropout and all, stopped twice: weights by id, curves, the selected epoch and its
    network.
    """
    made = training(*f"loss={loss}".split())
    whole = trainer.fit(made)
    fit_until(made, checkpoints, 2)
    messages = fit_until(made, checkpoints, 4)
    reporter = RecordingReporter()
    resumed = trainer.fit(made, reporter, checkpoints)
    messages += reporter.messages
    continued = [line for line in messages if line.startswith("continues")]
    assert continued == ["continues after epoch 1/4", "continues after epoch 3/4"]
    assert reporter.numbers == [4]
    same(whole, resumed)
    assert len(resumed.epochs) == 4
    assert resumed.seconds.train > 0


def test_one_checkpoint_is_left_and_loads_without_pickled_code(training, checkpoints):
    fit_until(training(), checkpoints, 4)
    assert list(checkpoints.folder.iterdir()) == [checkpoints.path(3)]
    assert checkpoints.load_checkpoint(checkpoints.path(3))["epoch"] == 2
    torch.save({"identity": print}, checkpoints.path(3))
    reporter = RecordingReporter()
    assert checkpoints.latest(reporter) is None
    assert "damaged (Weights only load failed" in reporter.messages[0]
    checkpoints.clear()
    assert list(checkpoints.folder.iterdir()) == []


def test_off_writes_nothing(training, checkpoints):
    fit_until(training("trainer.checkpoint=off"), checkpoints, 3)
    assert not checkpoints.folder.exists()


def test_what_another_machine_computes_in_fp32_is_not_continued_in_bf16(bound, tmp_path, monkeypatch):
    identity = identify(bound("trainer.precision=bf16-mixed", "optim.epochs=4"))
    made = training_job(identity.run)
    for has, messages in (
        (False, []),
        (True, ["checkpoint-2.pt is of another training (precision): not used"]),
    ):
        monkeypatch.setattr(devices, "bf16_products", lambda has=has: has)
        saved, reporter = run.checkpoints_for(Store(tmp_path / "outputs"), identity), RecordingReporter()
        assert saved.latest(reporter) is None
        assert reporter.messages == messages
        if not has:
            fit_until(made, saved, 3)


@pytest.mark.parametrize("harm", ["empty", "cut", "other"])
def test_what_cannot_be_used_is_reported_and_passed_over(training, checkpoints, harm):
    made = training()
    whole = trainer.fit(made)
    fit_until(made, checkpoints, 3)
    path = checkpoints.path(2)
    if harm == "other":
        checkpoints = Checkpoints(checkpoints.folder, {"id": "a", "torch": "3"})
    else:
        path.write_bytes(path.read_bytes()[: -100 if harm == "cut" else 0])
    reporter = RecordingReporter()
    same(whole, trainer.fit(made, reporter, checkpoints))
    (message,) = reporter.messages
    assert message.startswith(
        "checkpoint-2.pt is " + ("of another training (torch)" if harm == "other" else "damaged")
    )


def test_a_checkpoint_that_cannot_be_written_leaves_the_older_one(training, checkpoints):
    """The guard stands for whatever goes wrong last: a lock that was lost, a disk that is full."""
    made = training()
    fit_until(made, checkpoints, 3)

    def lost():
        raise OSError(28, "No space left on device")

    checkpoints.guard = lost
    with pytest.raises(OSError, match="No space"):
        trainer.fit(made, checkpoints=checkpoints)
    assert list(checkpoints.folder.iterdir()) == [checkpoints.path(2)]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device that is full")
def test_a_full_disk_is_what_the_system_says(tmp_path, monkeypatch):
    (tmp_path / "part").symlink_to("/dev/full")
    monkeypatch.setattr(atomic_io, "part_path", lambda _: tmp_path / "part")
    with pytest.raises(OSError, match="No space left") as error:
        Checkpoints(tmp_path, {}).save_checkpoint({"a": torch.zeros(10**6)}, tmp_path / "checkpoint-1.pt")
    assert disk_full(error.value)


def test_killed_in_its_third_epoch_a_run_goes_on(settings, bound, tmp_path, caplog):
    """A process killed with SIGKILL; what `train` then does, and what the row says."""
    encoder = make_encoder(tmp_path, hidden=64)
    more = [f"model.path={encoder}", "loss=dimp", "optim.epochs=6", "trainer.threads=1"]
    job = bound(*more)
    store = Store(job.paths.outputs)
    checker = next(iter(identify(job).checkers.values()))
    run.train(checker.run)
    process = subprocess.Popen(
        [sys.executable, "-c", CLI, "train", *settings, *more],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    for line in process.stdout:
        if "epoch 3/6" in line:
            process.send_signal(signal.SIGKILL)
            break
    process.stdout.close()
    assert process.wait() == -signal.SIGKILL
    with caplog.at_level("INFO"):
        run_id = run.train(job).id
    assert "continues after epoch" in caplog.text
    assert "epoch 1/6" not in caplog.text
    row = store.row(run_id)
    assert len(row["epochs"]) == 6
    assert not list(store.run_folder(run_id).glob("*checkpoint*"))
    again = bound(*more, f"paths.outputs={tmp_path / 'anew'}", "trainer.checkpoint=off")
    run.train(again)
    whole = Store(again.paths.outputs).row(run_id)
    assert row["epochs"] == whole["epochs"]
    assert store.table(run_id).equals(Store(again.paths.outputs).table(run_id))
