"""A training whose steps are recorded once and done again is the one whose steps are computed each time.

Without a GPU the recorder's part is done by one that calls the recorded work again; all else is what a GPU
runs. `benchmarks/gpu.py` compares the two on a GPU.
"""

import types

import numpy as np
import pytest
import torch

from support.networks import by_sequence
from support.training import equal, fit_until, training_job
from synthweight.models.packed import forward, graphs
from synthweight.models.packed.forward import PackedForward
from synthweight.training import trainer
from synthweight.training.checkpoint import Checkpoints


class Again:
    """A recorder whose graphs call the work again."""

    records: int = 0

    def first(self, work):
        work()

    def record(self, work):
        Again.records += 1
        return types.SimpleNamespace(replay=torch.enable_grad()(work))

    def send(self, values, to):
        to.copy_(values)


@pytest.fixture
def training(bound, plain):
    """91 texts in batches of 15: seven steps an epoch, three epochs, in fp64."""

    def make(*overrides):
        return training_job(
            bound(f"model.path={plain}", "optim.epochs=3", "optim.batch_size=15", "source.n=91", "trainer.precision=64-true",
                  "optim.lr=0.002", "optim.weight_decay=0.1", "optim.clip_norm=1e6", *overrides)
        )  # fmt: skip

    return make


@pytest.fixture
def recorded(monkeypatch):
    """From here on trainings take a GPU's path; gives the recorder."""
    monkeypatch.setattr(graphs, "Recorder", Again)
    monkeypatch.setattr(Again, "records", 0)
    monkeypatch.setattr(forward, "varlen_attention", by_sequence)
    read = lambda self, _: self.network.training or torch.is_inference_mode_enabled()  # noqa: E731
    monkeypatch.setattr(PackedForward, "takes_sequences", read)
    monkeypatch.setattr(
        PackedForward, "captures", lambda self, _: self.network.training and torch.is_grad_enabled()
    )
    return Again


RATE = 1e-7  # the recorded update reads the learning rate in fp32, as a GPU's kernel does
LOSSES = ["ce", "dimp", "rho", "hu loss.exact=false", "hu loss.exact=false loss.alignment=ghost"]


@pytest.mark.parametrize("loss", LOSSES)
def test_a_recorded_training_is_the_computed_one(training, request, loss):
    made = training(*f"loss={loss}".split())
    plain = trainer.fit(made)
    recorder = request.getfixturevalue("recorded")
    equal(trainer.fit(made), plain, RATE)
    assert recorder.records >= 3
    assert recorder.records % 2 == 1  # two passes for each shape, and the update


def test_shapes_beyond_the_last_graph_are_computed(training, request, monkeypatch):
    made = training("loss=ce", "optim.batch_size=30")
    plain = trainer.fit(made)
    recorder = request.getfixturevalue("recorded")
    monkeypatch.setattr(graphs, "MOST", 1)  # the last batch of an epoch has another shape
    equal(trainer.fit(made), plain, RATE)
    assert recorder.records == 3


def test_what_cannot_be_recorded_is_computed(training, request, monkeypatch, caplog):
    made = training("loss=ce")
    plain = trainer.fit(made)
    recorder = request.getfixturevalue("recorded")

    def refuse(self, work):
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(recorder, "record", refuse)
    equal(trainer.fit(made), plain, RATE)
    assert (
        caplog.text.count("no CUDA graph of this encoder (operation not permitted when stream is capturing)")
        == 1
    )


def test_the_update_alone_can_fail(training, request, monkeypatch):
    made = training("loss=ce")
    plain = trainer.fit(made)
    recorder = request.getfixturevalue("recorded")
    record = recorder.record

    def but_the_update(self, work):
        if work.__name__ == "update":
            raise RuntimeError("operation not permitted when stream is capturing")
        return record(self, work)

    monkeypatch.setattr(recorder, "record", but_the_update)
    equal(trainer.fit(made), plain, RATE)


def test_a_full_memory_is_no_reason_to_go_on(training, recorded, monkeypatch):
    def full(self, work):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(recorded, "record", full)
    with pytest.raises(Exception, match="memory"):
        trainer.fit(training("loss=ce"))


@pytest.mark.usefixtures("recorded")
def test_a_recorded_training_goes_on_after_a_stop(training, tmp_path):
    made, checkpoints = training("loss=ce"), Checkpoints(tmp_path, {"id": "x"})
    whole = trainer.fit(made)
    fit_until(made, checkpoints, 2)
    equal(trainer.fit(made, checkpoints=checkpoints), whole, RATE)


def test_the_recorded_update_clips(training, request):
    """By a factor in fp32, as the kernel reads it."""
    made = training("loss=ce", "optim.clip_norm=0.1")
    plain = trainer.fit(made)
    request.getfixturevalue("recorded")
    for a, b in zip(trainer.fit(made).epochs, plain.epochs, strict=True):
        np.testing.assert_allclose(a.log_probs["selection"], b.log_probs["selection"], rtol=1e-4)
    free = trainer.fit(training("loss=ce"))
    assert (
        np.abs(free.epochs[-1].log_probs["selection"] - plain.epochs[-1].log_probs["selection"]).max() > 0.01
    )
