"""Several seeds in one stack of networks: each as if it were trained alone."""

import dataclasses

import numpy as np
import pytest
import torch

from conftest import equal, make_encoder, material_of
from synthweight import execute, fit, identity, packing, published, run, sweep, together
from synthweight.errors import UserError
from synthweight.stack import Stack, clip
from synthweight.store import Store
from synthweight.together import Seat, fit_together
from test_packing import batch, classifier
from test_sweep import run_cli

LINES = ["ce", "focal", "imp", "dimp weighting.self_normalise=true", "quality_only weighting.clip=0.7", "filter"]


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return make_encoder(tmp_path_factory.mktemp("plain"), dropout=0.0)


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


@pytest.mark.parametrize("family", packing.FAMILIES)
@pytest.mark.parametrize("training", [True, False])
def test_a_stack_is_its_networks(family, training):
    """Logits and clipped gradients of each, to 1e-9 in fp64; batches of unlike size and width."""
    alone = [network.train(training) for network in networks(family)]
    batches = [batch(lengths, types=family == "bert") for lengths in ((7, 1, 12, 3), (5, 6), (9, 2, 4))]
    want = []
    for network, inputs in zip(alone, batches, strict=True):
        logits = packing.Packed(network)(**inputs).logits
        (logits**2).sum().backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        want.append((logits.detach(), [p.grad for p in network.parameters()]))
    before = [[p.detach().clone() for p in network.parameters()] for network in alone]
    with Stack.of(alone) as stack:
        stack.train(training)
        logits = stack(batches)
        sum((one**2).sum() for one in logits).backward()
        clip(stack, 1.0)
        for s, (values, gradients) in enumerate(want):
            torch.testing.assert_close(logits[s], values, rtol=1e-9, atol=1e-9)
            for p, gradient in zip(stack.stacked, gradients, strict=True):
                got = torch.zeros_like(p[s]) if p.grad is None else p.grad[s]
                torch.testing.assert_close(got, torch.zeros_like(got) if gradient is None else gradient, rtol=1e-9, atol=1e-9)
        with torch.no_grad():
            stack.stacked[0].add_(torch.arange(3, dtype=torch.float64).view(3, 1, 1))
    for s, network in enumerate(alone):  # they have what was learned, and their own forward pass
        torch.testing.assert_close(next(network.parameters()), before[s][0] + s)
        assert "forward" not in vars(network)


@pytest.mark.parametrize("line", LINES)
def test_seeds_together_are_seeds_apart(bound, plain, line):
    """21 steps in fp64 without dropout: curves, weights by example, the chosen epoch and the network, to 1e-9."""
    more = [f"loss={line.split()[0]}", *line.split()[1:], f"model.path={plain}", "trainer.precision=64-true"]
    more += ["trainer.packing=true", "optim.epochs=3", "optim.weight_decay=0.1", "optim.batch_size=14"]
    trainings = [material_of(bound(*more, f"seed={seed}")) for seed in (0, 1, 5)]
    told = []
    seats = [Seat(t, lambda number, _, seed=t.seed: told.append((seed, number))) for t in trainings]
    for training, got in zip(trainings, fit_together(seats), strict=True):
        equal(fit.fit(training, say=lambda _: None), got)
        assert not got.network.training
    assert told == [(seed, number) for number in range(3) for seed in (0, 1, 5)]


def test_the_stacks_dropout_is_dropout(bound):
    """Other draws than alone, and each network its own; the losses are of the same size."""
    more = ["loss=ce", "trainer.packing=true", "optim.epochs=2"]
    one = material_of(bound(*more))
    same = fit_together([Seat(one), Seat(one)])  # the same head and the same batches twice
    alone = fit.fit(one, say=lambda _: None)
    losses = [fitted.epochs[0].train_loss for fitted in (*same, alone)]
    assert len(set(losses)) == 3
    assert losses == pytest.approx([losses[0]] * 3, rel=0.05)


def test_what_is_not_stacked_says_why(bound):
    for line, why in {
        "loss=hu trainer.packing=true": "loss=hu learns or picks",
        "loss=rho trainer.packing=true": "loss=rho learns or picks",
        "loss=ce": "trainer.packing=false",
        "loss=ce trainer.packing=true trainer.devices=2": "trainer.devices=2",
    }.items():
        training = material_of(bound(*line.split()))
        with pytest.raises(UserError, match=f"seeds are not stacked: {why}"):
            fit_together([Seat(training)])


def test_trainings_that_differ_are_no_stack(bound):
    one = material_of(bound("trainer.packing=true"))
    tokens, targets = one.series["test"]
    for other in (
        material_of(bound("trainer.packing=true", "optim.epochs=1")),
        material_of(bound("trainer.packing=true", "source.n=50")),
        dataclasses.replace(one, series={"test": one.series["test"]}),
        dataclasses.replace(one, series=one.series | {"test": (tokens, np.roll(targets, 1))}),
    ):
        with pytest.raises(ValueError, match="trainings of a stack"):
            fit_together([Seat(one), Seat(other)])


def test_a_stack_that_does_not_fit(bound, monkeypatch):
    def full(*_):
        raise torch.OutOfMemoryError("no room")

    monkeypatch.setattr(together, "stacked", full)
    one = material_of(bound("trainer.packing=true"))
    with pytest.raises(UserError, match="2 seeds together do not fit into the memory of this cpu .*without --stack-seeds"):
        fit_together([Seat(one), Seat(one)])


def rows_of(store):
    found = {}
    for run_id in store.ids():
        row = store.row(run_id)
        found[run_id] = row, store.table(run_id)
    return found


def test_a_sweep_of_stacks_places_the_rows_of_single_runs(small, plain, tmp_path, capfd):
    """Checkers too: CE's seeds, then IMP's, DIMP's and Focal's. In fp64 the curves are those of single runs."""
    path, values = small
    values = [v for v in values if not v.startswith(("model.path", "paths.outputs"))]
    values += [f"model.path={plain}", "trainer.packing=true", "trainer.precision=64-true", "logger=csv"]
    stores = []
    for place, more in (("apart", []), ("together", ["--stack-seeds"])):
        assert run_cli("sweep", str(path), *values, f"paths.outputs={tmp_path / place}", *more) == 0
        stores.append(Store(str(tmp_path / place)))
    said = capfd.readouterr().out
    apart, stacked = map(rows_of, stores)
    assert list(apart) == list(stacked)
    assert len(apart) == 10
    for run_id, (row, table) in apart.items():
        other, weights = stacked[run_id]
        same = ("selected_epoch", "data", "checkers", "labels", "config")
        assert [row[key] for key in same] == [other[key] for key in same]
        for a, b in zip(row["epochs"], other["epochs"], strict=True):
            assert a["test"]["accuracy"] == b["test"]["accuracy"]
            assert a["train_loss"] == pytest.approx(b["train_loss"], rel=1e-6)
        np.testing.assert_allclose(table["weight"].to_numpy(), weights["weight"].to_numpy(), rtol=1e-5)
        assert "stacked" not in row["provenance"]["device"]
        assert other["provenance"]["device"]["stacked"] == 2
        folder = stores[1].run_folder(run_id)
        assert (folder / "model").is_dir() == (row["config"]["loss"]["name"] == "ce")
        curves = [(s.run_folder(run_id) / "csv" / "metrics.csv").read_text().splitlines() for s in stores]
        assert len(curves[0]) == len(curves[1]) > 2
        assert not list(folder.glob("epoch-*"))
    assert "[10/10]" in said
    assert run_cli("sweep", str(path), *values, f"paths.outputs={tmp_path / 'together'}", "--stack-seeds") == 0
    assert "nothing to do" in capfd.readouterr().out


def test_a_stack_leaves_out_what_is_done_or_taken(bound, capsys):
    jobs = [bound("trainer.packing=true", f"seed={seed}") for seed in range(4)]
    store = Store(jobs[0].paths.outputs)
    run.train(jobs[1])
    with store.lease(identity.of(jobs[2]).id):
        outcomes = run.train_together(jobs)
    assert [o.status for o in outcomes] == ["trained", "done", "taken", "trained"]
    assert {o.id for o in outcomes if o.status != "taken"} == store.ids()


def test_a_failed_stack_is_recorded_for_each_of_its_runs(small, monkeypatch, capfd):
    def broken(*_):
        raise ValueError("no such luck")

    path, values = small
    values = [*values, "trainer.packing=true"]
    monkeypatch.setattr(run.together, "fit_together", broken)
    assert run_cli("sweep", str(path), *values, "--stack-seeds") == 1
    error = capfd.readouterr().err
    assert "10 of 10 runs failed" in error
    assert error.count("ValueError: no such luck") >= 4  # and the others for their checkers
    store = published.plan(str(path), *values).planned.store
    assert store.ids() == set()
    monkeypatch.undo()
    assert run_cli("sweep", str(path), *values, "--stack-seeds", "--retry-failed") == 0
    assert len(store.ids()) == 10


def test_seeds_that_cannot_be_stacked_are_trained_one_by_one(small, capfd):
    path, values = small
    assert run_cli("sweep", str(path), *values, "source=small_real", "selection=last", "loss=ce", "--stack-seeds") == 0
    assert capfd.readouterr().out.count("seeds are trained one after the other: trainer.packing=false") == 1


def test_an_engine_trains_no_stacks(small):
    path, values = small
    with pytest.raises(UserError, match="--stack-seeds: .* leave out hydra/launcher"):
        execute.execute(published.plan(str(path), *values).planned, object(), sweep.Options(stack_seeds=True))
