"""Several seeds in one stack of networks: each as if it were trained alone."""

import dataclasses

import numpy as np
import pytest
import torch

from support.cli import run_cli
from support.networks import batch, classifier
from support.training import equal, training_job
from synthweight.errors import UserError
from synthweight.models.packed import forward
from synthweight.models.packed.ensemble import clip_each, stacked
from synthweight.runs import run, seed_stack
from synthweight.runs.identity import identify
from synthweight.runs.store import Store
from synthweight.sweeps import plan, worker
from synthweight.training import seed_ensemble, trainer
from synthweight.training.reporter import RunReporter
from synthweight.training.seed_ensemble import EnsembleMember, fit_seed_ensemble

LINES = [
    "ce",
    "focal",
    "imp",
    "dimp weighting.self_normalise=true",
    "quality_only weighting.clip=0.7",
    "filter",
]


def networks(family: str, count: int = 3) -> list[torch.nn.Module]:
    out = []
    for s in range(count):
        network = classifier(family)
        torch.manual_seed(s)
        with torch.no_grad():
            for p in network.parameters():
                p.add_(0.05 * torch.randn_like(p))
        out.append(network)
    return out


@pytest.mark.parametrize("family", forward.FAMILIES)
@pytest.mark.parametrize("training", [True, False])
def test_a_stack_is_its_networks(family, training):
    """Logits and clipped gradients of each, to 1e-9 in fp64; batches of unlike size and width."""
    alone = [network.train(training) for network in networks(family)]
    batches = [batch(lengths, types=family == "bert") for lengths in ((7, 1, 12, 3), (5, 6), (9, 2, 4))]
    want = []
    for network, inputs in zip(alone, batches, strict=True):
        logits = forward.PackedForward(network)(**inputs).logits
        (logits**2).sum().backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        want.append((logits.detach(), [p.grad for p in network.parameters()]))
    before = [[p.detach().clone() for p in network.parameters()] for network in alone]
    with stacked(alone) as stack:
        stack.train(training)
        logits = stack(batches)
        sum((one**2).sum() for one in logits).backward()
        clip_each(stack, 1.0)
        for s, (values, gradients) in enumerate(want):
            torch.testing.assert_close(logits[s], values, rtol=1e-9, atol=1e-9)
            for p, gradient in zip(stack.stacked, gradients, strict=True):
                got = torch.zeros_like(p[s]) if p.grad is None else p.grad[s]
                torch.testing.assert_close(
                    got, torch.zeros_like(got) if gradient is None else gradient, rtol=1e-9, atol=1e-9
                )
        with torch.no_grad():
            stack.stacked[0].add_(torch.arange(3, dtype=torch.float64).view(3, 1, 1))
    for s, network in enumerate(alone):  # they have what was learned, and their own forward pass
        torch.testing.assert_close(next(network.parameters()), before[s][0] + s)
        assert "forward" not in vars(network)


@pytest.mark.parametrize("line", LINES)
def test_seeds_together_are_seeds_apart(bound, plain, line):
    """21 steps in fp64 without dropout: curves, weights by example, the chosen epoch and the network, to
    1e-9.
    """
    more = [f"loss={line.split()[0]}", *line.split()[1:], f"model.path={plain}", "trainer.precision=64-true"]
    more += ["optim.epochs=3", "optim.weight_decay=0.1", "optim.batch_size=14"]
    trainings = [training_job(bound(*more, f"seed={seed}")) for seed in (0, 1, 5)]
    reported = []

    class Reporter(RunReporter):
        def epoch_finished(self, number, epochs, epoch):
            reported.append((self.name, number, epochs))

    members = [EnsembleMember(job, Reporter(str(job.seed))) for job in trainings]
    for training, got in zip(trainings, fit_seed_ensemble(members), strict=True):
        equal(trainer.fit(training), got)
        assert not got.network.training
    assert reported == [(seed, number, 3) for number in (1, 2, 3) for seed in "015"]


def test_the_stacks_dropout_is_dropout(bound):
    """In every epoch, and each network's its own: nothing is learned here, so that without it all losses
    would be the same.
    """
    one = training_job(bound("loss=ce", "optim.epochs=3", "optim.lr=1e-12"))
    # the same head and the same batches twice
    same = fit_seed_ensemble([EnsembleMember(one), EnsembleMember(one)])
    alone = trainer.fit(one)
    losses = [epoch.train_loss for fitted in (*same, alone) for epoch in fitted.epochs]
    assert len(set(losses)) == 9
    assert losses == pytest.approx([losses[0]] * 9, rel=0.05)
    tested = [fitted.epochs[0].metrics["test"]["nll"] for fitted in (*same, alone)]
    assert tested == pytest.approx([tested[0]] * 3, rel=1e-5)  # and none while it is evaluated


def test_a_stack_in_bf16_is_near_that_in_fp32(bound, plain):
    losses = {}
    for precision in ("32", "bf16-mixed"):
        more = [f"trainer.precision={precision}", f"model.path={plain}"]
        fitted = fit_seed_ensemble(
            [EnsembleMember(training_job(bound(*more, f"seed={seed}"))) for seed in range(2)]
        )
        losses[precision] = [epoch.train_loss for one in fitted for epoch in one.epochs]
    assert losses["bf16-mixed"] == pytest.approx(losses["32"], rel=1e-2)


def test_what_is_not_stacked_says_why(bound):
    for line, why in {
        "loss=hu": "loss=hu learns or picks",
        "loss=rho": "loss=rho learns or picks",
        "loss=ce trainer.padding=true": "trainer.padding=true",
        "loss=ce trainer.devices=2": "trainer.devices=2",
    }.items():
        training = training_job(bound(*line.split()))
        with pytest.raises(UserError, match=f"seeds are not stacked: {why}"):
            fit_seed_ensemble([EnsembleMember(training)])


def test_trainings_that_differ_are_no_stack(bound):
    one = training_job(bound())
    tokens, targets = one.series["selection"]
    for other in (
        training_job(bound("optim.epochs=1")),
        training_job(bound("source.n=50")),
        dataclasses.replace(one, series=one.final),
        dataclasses.replace(one, series=one.series | {"selection": (tokens, np.roll(targets, 1))}),
    ):
        with pytest.raises(ValueError, match="trainings of a stack"):
            fit_seed_ensemble([EnsembleMember(one), EnsembleMember(other)])


def test_a_stack_that_does_not_fit(bound, monkeypatch):
    def full(*_):
        raise torch.OutOfMemoryError("no room")

    monkeypatch.setattr(seed_ensemble, "_fit_stack", full)
    one = training_job(bound())
    with pytest.raises(
        UserError, match="out of memory on this cpu .no room.: train these 2 seeds without --stack-seeds"
    ):
        fit_seed_ensemble([EnsembleMember(one), EnsembleMember(one)])


def rows_of(store):
    found = {}
    for run_id in store.ids():
        row = store.row(run_id)
        found[run_id] = row, store.table(run_id)
    return found


def test_a_sweep_of_stacks_places_the_rows_of_single_runs(small, plain, tmp_path, capfd):
    """Checkers too: CE's seeds, then IMP's, DIMP's and Focal's.

    In fp64 the curves are those of single runs.
    """
    path, values = small
    values = [v for v in values if not v.startswith(("model.path", "paths.outputs"))]
    values += [f"model.path={plain}", "trainer.precision=64-true", "logger=csv"]
    stores = []
    for place, more in (("apart", []), ("together", ["--stack-seeds"])):
        assert run_cli("sweep", str(path), *values, f"paths.outputs={tmp_path / place}", *more) == 0
        stores.append(Store(str(tmp_path / place)))
    said = capfd.readouterr().out
    apart, stacked = map(rows_of, stores)
    assert apart.keys() == stacked.keys()
    assert len(apart) == 10
    for run_id, (row, table) in apart.items():
        other, weights = stacked[run_id]
        same = ("selected_epoch", "data", "checkers", "labels", "config")
        assert [row[key] for key in same] == [other[key] for key in same]
        for a, b in zip(row["epochs"], other["epochs"], strict=True):
            assert (a["test"] or {}).get("accuracy") == (b["test"] or {}).get("accuracy")
            assert a["train_loss"] == pytest.approx(b["train_loss"], rel=1e-6)
        np.testing.assert_allclose(table["weight"].to_numpy(), weights["weight"].to_numpy(), rtol=1e-5)
        assert row["provenance"]["stacked"] == []
        assert other["provenance"]["stacked"] == [0, 1]
        folder = stores[1].run_folder(run_id)
        assert (folder / "model").is_dir() == (row["config"]["loss"]["name"] == "ce")
        curves = [(s.run_folder(run_id) / "csv" / "metrics.csv").read_text().splitlines() for s in stores]
        assert len(curves[0]) == len(curves[1]) > 2
    assert "[10/10]" in said
    assert (
        run_cli("sweep", str(path), *values, f"paths.outputs={tmp_path / 'together'}", "--stack-seeds") == 0
    )
    assert "nothing to do" in capfd.readouterr().out


def test_a_stack_leaves_out_what_is_done_or_locked(bound):
    jobs = [bound(f"seed={seed}") for seed in range(4)]
    store = Store(jobs[0].paths.outputs)
    run.train(jobs[1])
    old = store.run_folder(identify(jobs[3]).id) / "checkpoint-1.pt"
    old.parent.mkdir(parents=True)
    old.touch()
    with store.lock(identify(jobs[2]).id):
        outcomes = seed_stack.train_together(jobs)
    assert [o.status for o in outcomes] == ["trained", "done", "locked", "trained"]
    assert {o.id for o in outcomes if o.status != "locked"} == store.ids()
    assert store.row(outcomes[3].id)["provenance"]["stacked"] == [0, 3]
    assert not old.exists()
    assert [o.status for o in seed_stack.train_together(jobs)] == ["done", "done", "trained", "done"]
    assert store.row(outcomes[2].id)["provenance"]["stacked"] == []  # alone, as ever


def test_a_stack_that_fails_is_trained_one_by_one(small, monkeypatch, capfd):
    def broken(*_):
        raise ValueError("no such luck")

    path, values = small
    monkeypatch.setattr(seed_stack.seed_ensemble, "fit_seed_ensemble", broken)
    assert run_cli("sweep", str(path), *values, "--stack-seeds") == 0
    assert (
        capfd.readouterr().err.count(
            "2 seeds at once failed, one after the other now: ValueError: no such luck"
        )
        == 5
    )
    assert len(plan.open_sweep(str(path), values).plan.store.ids()) == 10


def test_a_full_disk_stops_a_sweep_of_stacks(small, monkeypatch, capfd):
    def full(*_):
        raise OSError(28, "No space left on device")

    path, values = small
    monkeypatch.setattr(seed_stack.seed_ensemble, "fit_seed_ensemble", full)
    assert run_cli("sweep", str(path), *values, "--stack-seeds") == 1
    assert "make room" in capfd.readouterr().err


def test_folds_of_corrupted_data_are_no_stack(bound):
    """Copies of a text share its fold, so that folds differ in size from seed to seed."""
    _, why = seed_stack.stacked_with(bound("source.folds=5", "source.fold=0", "corruption=noisy", "loss=ce"))
    assert why == "a fold of corrupted data has another size for each seed"
    assert seed_stack.stacked_with(bound("source.folds=5", "source.fold=0"))[1] is None


def test_seeds_that_cannot_be_stacked_are_trained_one_by_one(small, capfd):
    path, values = small
    assert (
        run_cli(
            "sweep",
            str(path),
            *values,
            "source=small_real",
            "selection=last",
            "loss=ce",
            "trainer.padding=true",
            "--stack-seeds",
        )
        == 0
    )
    assert capfd.readouterr().out.count("seeds are trained one after the other: trainer.padding=true") == 1


def test_an_engine_trains_no_stacks(small):
    path, values = small
    with pytest.raises(UserError, match="--stack-seeds: .* leave out hydra/launcher"):
        opened = plan.open_sweep(str(path), [*values, "hydra.sweeper.stack_seeds=true"])
        worker.run_sweep(opened.plan, object(), opened.options, in_process=False)
