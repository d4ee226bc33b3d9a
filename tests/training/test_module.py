"""The loop: what a loss that picks, a bound and a sum change in it, and what they leave alone."""

import dataclasses

import numpy as np
import pytest
import torch

from support.training import training_job
from synthweight.data.batching import LengthGroupedBatchSampler, RandomBatchSampler
from synthweight.models import optim
from synthweight.runs import run
from synthweight.runs.store import Store
from synthweight.training import trainer
from synthweight.training.module import ClassifierModule
from synthweight.training.seed_ensemble import EnsembleMember, SeedEnsembleModule, fit_seed_ensemble


@pytest.fixture
def trained(bound):
    """Trains and gives the row with the training lines of its Parquet by epoch."""

    def train(*overrides: str):
        job = bound(*overrides)
        store, run_id = Store(job.paths.outputs), run.train(job).id
        lines = [x for x in store.table(run_id).to_pylist() if x["split"] == "train"]
        return store.row(run_id), {
            e: {x["id"]: x["weight"] for x in lines if x["epoch"] == e} for e in (1, 2)
        }

    return train


@pytest.fixture
def steps(monkeypatch):
    """The learning rate and the parameters without a gradient, at every optimizer step of a loss that is no
    checker's.
    """
    seen = []

    def watched(self, *arguments, **named):
        if self.strategy.needs:
            without = [name for name, p in self.network.named_parameters() if p.grad is None]
            seen.append((self.trainer.optimizers[0].param_groups[0]["lr"], without))
        clip(self, *arguments, **named)

    clip = ClassifierModule.configure_gradient_clipping
    monkeypatch.setattr(ClassifierModule, "configure_gradient_clipping", watched)
    return seen


@pytest.mark.parametrize("precision", ["32", "bf16-mixed"])
def test_a_loss_that_picks_steps_once_a_candidate_batch(trained, steps, precision):
    """96 examples, 16 of 32 candidates: three steps an epoch, a schedule over six, and every weight learns."""
    row, weights = trained("loss=rho", "loss.share=0.5", f"trainer.precision={precision}")
    assert [lr for lr, _ in steps] == pytest.approx([0.005 * (1 - i / 6) for i in range(6)])
    assert all(without == [] for _, without in steps)
    for by_id in weights.values():
        assert sorted(by_id.values()) == [0.0] * 48 + [1.0] * 48
    assert weights[1] != weights[2]
    assert row["guard_hits"] == 0


def test_the_last_candidate_batch_keeps_the_share(trained, steps):
    """40 examples: candidates of 32 and 8."""
    _, weights = trained("loss=rho", "loss.share=0.5", "source.n=40", "loss.renormalise=false")
    assert len(steps) == 4
    assert sorted(weights[1].values()) == [0.0] * 20 + [0.5] * 20


@pytest.mark.parametrize(
    "same",
    [
        ["loss=rho", "loss.share=1"],
        ["loss=filter", "loss.threshold=0"],
        ["loss=quality_only", "weighting.clip=1e-20", "weighting.self_normalise=true"],
    ],
    ids=lambda o: o[0],
)
def test_what_is_cross_entropy_trains_like_it(trained, same):
    """The same draws, the same batches: the same digits, or nearly where a weight of one is a quotient."""
    want, ones = trained("loss=ce")
    got, weights = trained(*same)
    assert weights == ones
    exact = "clip" not in "".join(same)
    for one, other in zip(want["epochs"], got["epochs"], strict=True):
        if exact:
            assert one == other
        assert one["train_loss"] == pytest.approx(other["train_loss"], rel=1e-5)


def test_recorded_weights_are_those_that_multiply(trained):
    _, plain = trained("loss=imp")
    _, clipped = trained("loss=imp", "weighting.clip=1")
    assert min(plain[1].values()) < 1 < max(plain[1].values())
    for i, weight in plain[1].items():
        assert clipped[1][i] == pytest.approx(min(weight, 1), rel=1e-6)
    _, normalised = trained("loss=imp", "weighting.self_normalise=true")
    assert np.mean(list(normalised[1].values())) == pytest.approx(1, rel=1e-5)


def test_a_bound_that_nothing_reaches_changes_no_digit(trained):
    want, weights = trained("loss=dimp")
    got, same = trained("loss=dimp", "weighting.clip=1e9")
    assert got["epochs"] == want["epochs"]
    assert same == weights


@pytest.mark.parametrize("most", [1.0, 50.0])
def test_gradients_scaled_within_the_step_are_clipped_gradients(most):
    """Of a norm of 14 and of a limit above and below it: the same parameters after three steps, but for the
    last digits.
    """
    after = []
    for own in (False, True):
        torch.manual_seed(0)
        shapes = ((40, 7), (7,), (1, 3), (5, 2, 2), (2,))
        given = torch.nn.ParameterList(torch.nn.Parameter(torch.randn(shape)) for shape in shapes)
        adam = torch.optim.AdamW(given, lr=0.1, fused=True)
        for _ in range(3):
            for p in list(given)[:-1]:  # the last one has no gradient
                p.grad = torch.randn_like(p) * 0.8
            if own:
                optim.clip(given, adam, most)
            else:
                torch.nn.utils.clip_grad_norm_(given, most)
            adam.step()
        after.append(given)
        norm = torch.cat([p.grad.flatten() for p in list(given)[:-1]]).norm().item()
        assert norm == pytest.approx(min(most, norm), rel=1e-5)
        assert norm == pytest.approx(1.0 if most == 1.0 else 14, rel=0.1)
        assert given[-1].grad is None
    for one, other in zip(*after, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("batching", ["bucketed", "random"])
@pytest.mark.parametrize("stacked", [False, True])
def test_a_training_takes_its_texts_as_asked_and_holds_no_gradients_meanwhile(
    bound, monkeypatch, batching, stacked
):
    """Of like length or at random, alone or in a stack; what the last step left is gone before the next and
    before evaluation.
    """
    kind = SeedEnsembleModule if stacked else ClassifierModule
    seen, held, step, evaluated = [], [], kind.training_step, kind.on_validation_start

    def stepped(self, batch, number):
        seen.append((batch[1] if stacked else batch)["index"].tolist())
        held.extend(p.grad for p in self.parameters())
        return step(self, batch, number)

    monkeypatch.setattr(kind, "training_step", stepped)
    monkeypatch.setattr(
        kind,
        "on_validation_start",
        lambda self: held.extend(p.grad for p in self.parameters()) or evaluated(self),
    )
    made = training_job(bound("loss=ce", "optim.epochs=2", f"trainer.batching={batching}"))
    own = dataclasses.replace(made, seed=made.seed + 1)
    fit_seed_ensemble([EnsembleMember(made), EnsembleMember(own)]) if stacked else trainer.fit(own)
    lengths, size = made.train[0].lengths, made.optim.batch_size
    sampler = {
        "bucketed": LengthGroupedBatchSampler(lengths, own.train[1], size, own.seed),
        "random": RandomBatchSampler(len(lengths), size, own.seed),
    }[batching]
    wanted = []
    for epoch in range(2):
        sampler.sampler.set_epoch(epoch)
        wanted += list(sampler)
    assert len(wanted) > 2
    assert seen == wanted
    assert len(held) > 100
    assert all(gradient is None for gradient in held)


@pytest.mark.parametrize("keep_state", [True, False])
def test_the_test_set_is_evaluated_once_by_the_selected_network(bound, keep_state):
    """With dropout, and an epoch selected that is not the last: as after every epoch, to the digit."""
    fitted = {}
    for test in ("selected", "epoch"):
        made = training_job(bound("loss=ce", "optim.epochs=6", "optim.lr=0.03", f"trainer.test={test}"))
        fitted[test] = trainer.fit(dataclasses.replace(made, keep_state=keep_state))
    once, always = fitted.values()
    assert once.selected == always.selected < 5
    for i, (a, b) in enumerate(zip(once.epochs, always.epochs, strict=True)):
        assert a.train_loss == b.train_loss
        assert ("test" in a.metrics) == (i == once.selected)
        assert "test" in b.metrics
    chosen, other = once.epochs[once.selected], always.epochs[once.selected]
    assert chosen.metrics["test"] == other.metrics["test"] != always.epochs[-1].metrics["test"]
    np.testing.assert_array_equal(chosen.log_probs["test"], other.log_probs["test"])


def test_without_a_selection_set_no_epoch_is_evaluated(trained):
    row, _ = trained("loss=ce", "source=small_real", "selection=last")
    assert [epoch["selection"] for epoch in row["epochs"]] == [None] * 3
    assert [bool(epoch["test"]) for epoch in row["epochs"]] == [False, False, True]
    assert row["seconds"]["evaluate"] > 0
