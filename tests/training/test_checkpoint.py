"""A training that is killed and goes on: the same digits, whole checkpoints or none, no pickle."""

import json
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch

from support.cli import CLI
from support.toy import make_encoder
from support.training import material_of, stopped_at
from synthweight.errors import UserError
from synthweight.runs import run
from synthweight.runs.identity import identify
from synthweight.runs.store import Store
from synthweight.training import devices, trainer
from synthweight.training.checkpoint import Checkpoints, pack, unpack

LOSSES = ["ce", "focal", "imp", "dimp", "rho", "filter", "hu loss.exact=false", "hu", "ren", "sungen loss.outer_steps=3"]
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
        return material_of(job)

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


@pytest.mark.filterwarnings("ignore:.*has sunk:UserWarning", "ignore:.*fell to the floor:UserWarning")
@pytest.mark.parametrize("loss", [*LOSSES, *MORE, "ce trainer.test=epoch"])
def test_stopped_and_resumed_equals_uninterrupted(training, checkpoints, loss):
    """To the digit, dropout and all, stopped twice: weights by id, curves, the selected epoch and its network."""
    made = training(*f"loss={loss}".split())
    whole = trainer.fit(made)
    said: list[str] = []
    stopped_at(made, checkpoints, 2)
    stopped_at(made, checkpoints, 4, said)
    resumed = trainer.fit(made, say=said.append, checkpoints=checkpoints)
    assert [line for line in said if line.startswith("goes on")] == ["goes on after epoch 1/4", "goes on after epoch 3/4"]
    same(whole, resumed)
    assert len(resumed.epochs) == 4
    assert resumed.seconds.train > 0


def test_one_checkpoint_stands_and_nothing_in_it_is_pickled(training, checkpoints):
    stopped_at(training(), checkpoints, 4)
    assert [p.name for p in checkpoints.folder.iterdir()] == ["checkpoint-3"]
    names = {p.name for p in checkpoints.path(3).iterdir()}
    assert names == {"network.safetensors", "state.safetensors", "state.json"}
    assert not any(p.read_bytes()[:2] in (b"\x80\x04", b"PK") for p in checkpoints.path(3).iterdir())
    checkpoints.clear()
    assert list(checkpoints.folder.iterdir()) == []


def test_off_writes_nothing(training, checkpoints):
    stopped_at(training("trainer.checkpoint=off"), checkpoints, 3)
    assert not checkpoints.folder.exists()


def test_what_another_machine_takes_for_bf16_does_not_go_on(bound, tmp_path, monkeypatch):
    who = identify(bound("trainer.precision=bf16-mixed", "optim.epochs=4"))
    made, said = material_of(who.run), []
    for has, resumed in ((False, []), (True, ["checkpoint-2 is of another training (precision): not used"])):
        monkeypatch.setattr(devices, "bf16_products", lambda has=has: has)
        saved = run.checkpoints_of(Store(tmp_path / "outputs"), who)
        latest = saved.latest(said.append)
        assert latest is None
        assert said == resumed
        if not has:
            stopped_at(made, saved, 3)


@pytest.mark.parametrize("harm", ["network.safetensors", "state.safetensors", "state.json", "cut", "other"])
def test_what_cannot_be_used_is_said_and_passed_over(training, checkpoints, harm):
    made = training()
    whole = trainer.fit(made)
    stopped_at(made, checkpoints, 3)
    path = checkpoints.path(2)
    if harm == "cut":
        (path / "state.safetensors").write_bytes((path / "state.safetensors").read_bytes()[:-100])
    elif harm == "other":
        checkpoints = Checkpoints(checkpoints.folder, {"id": "a", "torch": "3"})
    else:
        (path / harm).unlink()
    said: list[str] = []
    same(whole, trainer.fit(made, say=said.append, checkpoints=checkpoints))
    assert len(said) == 1
    assert said[0].startswith("checkpoint-2 is " + ("of another training (torch)" if harm == "other" else "damaged"))


def test_a_checkpoint_that_cannot_be_written_leaves_the_older_one(training, checkpoints, monkeypatch):
    """The guard stands for whatever goes wrong last: a lock that was lost, a disk that is full."""
    made = training()
    stopped_at(made, checkpoints, 3)

    def lost():
        raise OSError(28, "No space left on device")

    checkpoints.guard = lost
    with pytest.raises(OSError, match="No space"):
        trainer.fit(made, say=lambda _: None, checkpoints=checkpoints)
    assert [p.name for p in checkpoints.folder.iterdir()] == ["checkpoint-2"]


def test_states_go_through_json_and_back():
    tensors: dict = {}
    state = {0: (1, [2.5, None]), "x": {"y": torch.arange(3), True: float("-inf")}, "a": np.arange(4, dtype=np.uint32)}
    tree = json.loads(json.dumps(pack(state, tensors)))
    back = unpack(tree, tensors)
    assert back[0] == (1, [2.5, None])
    assert back["x"][True] == float("-inf")
    torch.testing.assert_close(back["x"]["y"], torch.arange(3))
    assert back["a"].dtype == np.uint32
    assert list(back) == list(state)
    with pytest.raises(UserError, match=r"cannot hold a set: train with trainer\.checkpoint=off"):
        pack({"s": {1}}, {})


def test_tied_weights_are_written_apart(tmp_path):
    from safetensors.torch import load_file

    from synthweight.training.checkpoint import write

    shared = torch.randn(3, 2)
    write(tmp_path / "x.safetensors", {"a": shared, "b": shared})
    assert torch.equal(load_file(tmp_path / "x.safetensors")["b"], shared)


def test_killed_in_its_third_epoch_a_run_goes_on(settings, bound, tmp_path, capsys):
    """A process killed with SIGKILL; what `train` then does, and what the row says."""
    encoder = make_encoder(tmp_path, hidden=64)
    more = [f"model.path={encoder}", "loss=dimp", "optim.epochs=6", "trainer.threads=1"]
    job = bound(*more)
    store = Store(job.paths.outputs)
    checker = next(iter(identify(job).checkers.values()))
    run.train(checker.run)
    process = subprocess.Popen(
        [sys.executable, "-c", CLI, "train", *settings, *more], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    for line in process.stdout:
        if "epoch 3/6" in line:
            process.send_signal(signal.SIGKILL)
            break
    process.stdout.close()
    assert process.wait() == -signal.SIGKILL
    capsys.readouterr()
    run_id = run.train(job).id
    out = capsys.readouterr().out
    assert "goes on after epoch" in out
    assert "epoch 1/6" not in out
    row = store.row(run_id)
    assert len(row["epochs"]) == 6
    assert not list(store.run_folder(run_id).glob("*checkpoint*"))
    again = bound(*more, f"paths.outputs={tmp_path / 'anew'}", "trainer.checkpoint=off")
    run.train(again)
    whole = Store(again.paths.outputs).row(run_id)
    assert row["epochs"] == whole["epochs"]
    assert store.table(run_id).equals(Store(again.paths.outputs).table(run_id))
