"""Seconds from rows, by hand; and figures from the same rows."""

import csv
import dataclasses
import io

import numpy as np
import pyarrow as pa
import pytest

from synthweight.data.examples import Example
from synthweight.errors import UserError
from synthweight.reporting import charts, plotting, render
from synthweight.reporting.rows import Wanted, gather
from synthweight.reporting.tables import noise_detection, timing
from synthweight.runs import run
from synthweight.runs.store import PredictionTable, Store

WEIGHT = {"ce": 1.0, "imp": 0.5, "dimp": 0.25}
TRAIN = {"ce": 10.0, "imp": 11.0, "dimp": 12.0}


def parquet(loss, seed):
    """Two epochs of two training examples, one swapped; the weight doubles in a dynamic loss."""
    examples = (Example("a", "a", None, "x"), Example("b", "b", None, "y", kind="swapped", origin="b"))
    scores = np.log(np.array([[0.9, 0.1], [0.8, 0.2]]))
    first = np.array([WEIGHT[loss], WEIGHT[loss] / (1 if loss == "ce" else 10)])
    return pa.concat_tables(
        [PredictionTable("test", examples, ("x", "y")).at_epoch(2, scores, None)]
        + [
            PredictionTable("train", examples, ("x", "y")).at_epoch(e + 1, None, first * (2**e if loss == "dimp" else 1))
            for e in (0, 1)
        ]
    )


def row(run_id, loss, seed, checkers, seconds, threads=2):
    metrics = [{"test": {"accuracy": a + seed / 100, "macro_f1": a / 2}, "selection": {"accuracy": a}} for a in (0.5, 0.6)]
    return {
        "format": 1, "id": run_id, "settings_id": run_id, "version": 1, "selected_epoch": 2, "labels": ["x", "y"],
        "epochs": metrics, "data": {"test": {"sha256": "t"}, "synthetic": {"sha256": "s", "n": 100, "dropped": 4}},
        "config": {"source": {"name": "synthetic", "n": None}}, "checkers": {"quality": None, "diversity": None} | checkers,
        "seconds": {"prepare": 99.0, "scores": 0.0, "weights": 0.0, "evaluate": 99.0} | seconds,
        "provenance": {"device": {"kind": "cpu", "name": "cpu"}, "threads": threads, "finished": "2026"},
    }  # fmt: skip


@pytest.fixture
def made(bound, tmp_path):
    store = Store(tmp_path / "made")
    store.prepare()
    runs = []
    for seed in (0, 1):
        store.write_row(row(f"qc{seed}", "ce", seed, {}, {"train": 4.0}), parquet("ce", seed))
        for loss, scores in (("ce", 0.0), ("imp", 3.0), ("dimp", 0.01)):
            checkers = {"imp": {"quality": f"qc{seed}", "diversity": f"ce{seed}"}, "dimp": {"quality": f"qc{seed}"}}
            seconds = {"train": TRAIN[loss] + seed, "scores": scores}
            store.write_row(row(f"{loss}{seed}", loss, seed, checkers.get(loss, {}), seconds), parquet(loss, seed))
            runs.append((f"{loss}{seed}", dataclasses.replace(bound(f"loss={loss}"), seed=seed)))
    return store, runs


def test_separation_is_the_auc_of_the_weights(made):
    """Two examples: CE weighs them alike, the others the clean one above the swapped one."""
    store, runs = made
    table = noise_detection.separation(found(store, runs))
    by_loss = {line[2]: line for line in table.lines}
    epochs = [[cell.mean for cell in by_loss[loss][-2:]] for loss in ("ce", "imp", "dimp")]
    assert epochs == [[0.5, 0.5], [1.0, 1.0], [1.0, 1.0]]
    assert [str(cell) for cell in by_loss["imp"][-4:-2]] == ["60.5 ± 0.7", "30.0 ± 0.0"]


def test_without_a_swapped_label_there_is_no_separation(bound):
    outcome = run.train(bound("loss=ce"))
    with pytest.raises(UserError, match=r"set corruption\.swapped"):
        noise_detection.aucs(Store(bound().paths.outputs), outcome.id)


def found(store, runs, **options):
    return gather(store, [Wanted(run_id, run_id, run) for run_id, run in runs], "timing", **options)


def table(store, runs, **options):
    text = render.comma_separated(timing.times(found(store, runs, **options)))
    return {line["loss"]: line for line in csv.DictReader(io.StringIO(text))}


def test_seconds_by_hand(made):
    by_loss = table(*made)
    assert [by_loss["ce"][k] for k in ("build QC", "build DC", "weights", "train", "total", "× CE")] == [
        "0", "0", "0", "10.5", "10.5", "1",
    ]  # fmt: skip
    imp = by_loss["imp"]
    assert [imp[k] for k in ("build QC", "build DC", "weights", "train")] == ["4", "10.5", "3", "11.5"]
    assert (imp["total"], imp["total, shared DC"], imp["total n"]) == ("29", "18.5", "2")
    assert imp["× CE"] == f"{(28 / 10 + 30 / 11) / 2:.6g}"
    assert imp["× CE, shared DC"] == f"{(18 / 10 + 19 / 11) / 2:.6g}"
    assert imp["total sd"] == f"{2**0.5:.6g}"
    assert imp["paper × CE"] == "2.20"
    dimp = by_loss["dimp"]  # its scores were there already: charged what IMP paid
    assert [dimp[k] for k in ("build QC", "build DC", "weights", "train", "total")] == ["4", "0", "3", "12.5", "19.5"]


def test_any_order_gives_the_same_times(made):
    store, runs = made
    swapped = [runs[i] for i in (3, 4, 2, 0, 1, 5)]
    assert table(store, swapped) == table(*made)


def test_a_checker_without_a_row_is_named(made):
    store, runs = made
    store.json_path("qc1").unlink()
    with pytest.raises(UserError, match="qc1: no row, though it is the quality checker of imp1"):
        table(store, runs)


def test_times_of_different_machines_are_refused_or_named(made):
    store, runs = made
    store.json_path("ce0").unlink()
    store.write_row(row("ce0", "ce", 0, {}, {"train": 5.0}, threads=1), parquet("ce", 0))
    with pytest.raises(UserError, match="different machines: cpu, 1 threads; cpu, 2 threads"):
        table(store, runs)
    text = render.markdown(timing.times(found(store, runs, mixed=True)))
    assert "Machine: cpu, 1 threads; cpu, 2 threads." in text


def test_missing_runs_are_holes(made):
    store, runs = made
    store.json_path("dimp1").unlink()
    assert (table(store, runs, partial=True)["dimp"]["total n"], table(store, runs, partial=True)["dimp"]["total missing"]) == (
        "1", "1",
    )  # fmt: skip


def points(chart, label):
    return next(s.points for s in chart.panels[0].series if s.label == label)


def test_dynamics(made):
    chart = charts.dynamics(found(*made))
    assert [(p.x, p.y, p.low, p.high, p.n) for p in points(chart, "imp")] == [
        (1, pytest.approx(50.5), 50, pytest.approx(51), 2), (2, pytest.approx(60.5), 60, pytest.approx(61), 2),
    ]  # fmt: skip
    assert [panel.y_label for panel in chart.panels] == ["test accuracy (%)", "test macro F1 (%)"]
    assert chart.notes == ("Test after each epoch; mean over n = 2 seeds, minimum to maximum.",)


def test_weights_by_kind_and_their_distribution(made):
    chart = charts.weights(found(*made))
    assert [s.label for s in chart.panels[0].series] == ["ce", "imp", "dimp, first epoch", "dimp, last epoch"]
    assert [(p.x, p.y) for p in points(chart, "imp")] == [(0, 0.5), (1, pytest.approx(0.05))]
    assert points(chart, "dimp, last epoch")[0].y == 0.5
    spread = charts.distribution(found(*made))
    assert [s.label for s in spread.panels[0].series] == ["imp", "dimp"]  # CE's weights are all 1
    assert [round(p.y) for p in points(spread, "imp") if p.y] == [50, 50]


def test_curves_and_cost(made, bound):
    store, runs = made
    ce = [run for run_id, run in runs if run_id.startswith("ce")]
    x = [dataclasses.replace(run, source=dataclasses.replace(run.source, n=n)) for run, n in zip(ce, [48, None], strict=True)]
    chart = charts.KINDS["quantity"](found(store, [("ce0", x[0]), ("ce1", x[1])]))
    assert [(p.x, p.n) for p in points(chart, "ce")] == [(48, 1), (96, 1)]
    assert "n = 1: one seed, no spread" in chart.notes[0]
    (p,) = points(charts.cost(found(*made)), "imp")
    assert (p.x, p.x_low, p.x_high, p.y) == (29, 28, 30, pytest.approx(60.5))


@pytest.mark.parametrize("kind", ["dynamics", "weights", "distribution", "cost"])
def test_a_figure_has_the_same_bytes_in_any_order_of_rows(made, kind, tmp_path):
    store, runs = made
    first, second = (charts.KINDS[kind](found(store, r)) for r in (runs, [runs[i] for i in (3, 4, 5, 0, 1, 2)]))
    for name, chart in (("a", first), ("b", second)):
        plotting.write(chart, tmp_path / name, "figure", "command")
    for file in plotting.files(tmp_path / "a", "figure"):
        assert file.read_bytes() == (tmp_path / "b" / file.name).read_bytes()
        assert plotting.holds(file, second)


def test_a_figure_of_other_numbers_is_found_out(made, tmp_path):
    store, runs = made
    files = plotting.write(charts.dynamics(found(store, runs)), tmp_path, "figure", "command")
    fewer = charts.dynamics(found(store, runs[:3]))
    assert not any(plotting.holds(file, fewer) for file in files)


def test_an_incomplete_figure_says_so(made):
    store, runs = made
    store.json_path("dimp1").unlink()
    with pytest.raises(UserError, match="1 of 6 runs have no row, first dimp1 .* synthweight sweep timing"):
        found(store, runs)
    assert "INCOMPLETE: 1 of 6 runs have no row." in charts.dynamics(found(store, runs, partial=True)).notes
    for run_id, _ in runs:
        store.json_path(run_id).unlink(missing_ok=True)
    with pytest.raises(UserError, match="nothing to draw"):
        charts.dynamics(found(store, runs, partial=True))
