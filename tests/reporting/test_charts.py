"""Charts from rows, by hand."""

import dataclasses

import numpy as np
import pytest

from support.rows import predictions_table, row, row_set
from synthweight.errors import UserError
from synthweight.reporting import svg
from synthweight.reporting.charts import CHARTS
from synthweight.reporting.plotting import shows, write_figure
from synthweight.reporting.tables.results import results_table
from synthweight.runs.store import Store


def points(chart, label):
    return next(s.points for s in chart.panels[0].series if s.label == label)


def test_dynamics(timed):
    chart = CHARTS["dynamics"](row_set(*timed))
    assert [(p.x, p.y, p.low, p.high, p.n) for p in points(chart, "imp")] == [
        (1, pytest.approx(50.5), 50, pytest.approx(51), 2),
        (2, pytest.approx(60.5), 60, pytest.approx(61), 2),
    ]  # fmt: skip
    assert [panel.y_label for panel in chart.panels] == ["test accuracy (%)", "test macro F1 (%)"]
    assert chart.notes == ("Test after each epoch; mean over n = 2 seeds, minimum to maximum.",)


def test_dynamics_need_test_after_each_epoch(timed, replace_row):
    store, runs = timed
    replace_row(
        store, "imp1", lambda row: row | {"epochs": [row["epochs"][0] | {"test": None}, row["epochs"][1]]}
    )
    with pytest.raises(
        UserError, match=r"1 of 6 rows, first imp1, have no test metrics .* set trainer\.test=epoch"
    ):
        CHARTS["dynamics"](row_set(store, runs))
    assert points(CHARTS["cost"](row_set(store, runs)), "imp")[0].n == 2


def test_weights_by_kind_and_their_distribution(timed):
    chart = CHARTS["weights"](row_set(*timed))
    assert [s.label for s in chart.panels[0].series] == ["ce", "imp", "dimp, first epoch", "dimp, last epoch"]
    assert [(p.x, p.y) for p in points(chart, "imp")] == [(0, 0.5), (1, pytest.approx(0.05))]
    assert points(chart, "dimp, last epoch")[0].y == 0.5
    distribution = CHARTS["distribution"](row_set(*timed))
    assert [s.label for s in distribution.panels[0].series] == ["imp", "dimp"]  # CE's weights are all 1
    assert [round(p.y) for p in points(distribution, "imp") if p.y] == [50, 50]


def test_curves_and_cost(timed):
    store, runs = timed
    ce = [run for run_id, run in runs if run_id.startswith("ce")]
    x = [
        dataclasses.replace(run, source=dataclasses.replace(run.source, n=n))
        for run, n in zip(ce, [48, None], strict=True)
    ]
    chart = CHARTS["quantity"](row_set(store, [("ce0", x[0]), ("ce1", x[1])]))
    assert [(p.x, p.n) for p in points(chart, "ce")] == [(48, 1), (96, 1)]
    assert "n = 1: one seed, no spread" in chart.notes[0]
    (p,) = points(CHARTS["cost"](row_set(store, runs)), "imp")
    assert (p.x, p.x_low, p.x_high, p.y) == (29, 28, 30, pytest.approx(60.5))


def test_mixing_curves_have_a_panel_per_loss_and_begin_at_the_real_data(tmp_path, bound):
    store, made = Store(tmp_path / "made"), []
    store.prepare()
    for n, accuracy in ((10, 0.5), (30, 0.7)):
        for source in ("source=synthetic", "source=mixed"):
            for loss in ("ce", "dimp"):
                for variant in ("one_shot", "topic"):
                    overrides = [
                        "selection=last",
                        source,
                        f"loss={loss}",
                        f"source.n={n}",
                        f"source.variant={variant}",
                    ]
                    made.append((bound(*overrides), accuracy))
    made.append((bound("source=small_real"), 0.4))
    for i, (_, accuracy) in enumerate(made):
        store.write_row(row(f"{i:016x}", accuracy), predictions_table())
    chart = CHARTS["mixing"](row_set(store, [(f"{i:016x}", run) for i, (run, _) in enumerate(made)]))
    assert [panel.title for panel in chart.panels] == ["local, ce", "local, dimp"]
    assert [s.label for s in chart.panels[1].series] == [
        "small_real, ce", "synthetic, source.variant one_shot", "synthetic, source.variant topic",
        "mixed, source.variant one_shot", "mixed, source.variant topic",
    ]  # fmt: skip
    assert [(p.x, p.y) for p in points(chart, "small_real, ce")] == [(0, 40)]
    assert [(p.x, p.y) for p in points(chart, "mixed, source.variant topic")] == [(10, 50), (30, 70)]


def test_an_incomplete_chart_is_marked(timed):
    store, runs = timed
    store.json_path("dimp1").unlink()
    assert (
        "INCOMPLETE: 1 of 6 runs have no row." in CHARTS["dynamics"](row_set(store, runs, partial=True)).notes
    )
    for run_id, _ in runs:
        store.json_path(run_id).unlink(missing_ok=True)
    with pytest.raises(UserError, match="nothing to draw"):
        CHARTS["dynamics"](row_set(store, runs, partial=True))


def test_gains_over_ce_by_seed_and_the_checkers_accuracy(timed):
    store, runs = timed
    chart = CHARTS["gains"](row_set(store, runs))
    (panel,) = chart.panels
    assert panel.title == "local, all of D_P′\nquality checker 60 %"
    assert [s.label for s in panel.series] == ["imp", "dimp"]
    assert [(p.x, p.y, p.n) for p in points(chart, "imp")] == [(0, 0, 2)]  # seed by seed they are equal

    def moved(run, swapped, real_n):
        corruption = dataclasses.replace(run.corruption, swapped=swapped)
        return dataclasses.replace(
            run, corruption=corruption, source=dataclasses.replace(run.source, real_n=real_n)
        )

    apart = [(run_id, moved(run, 0.3, 64) if run_id.endswith("1") else run) for run_id, run in runs]
    titles = [panel.title.splitlines()[0] for panel in CHARTS["gains"](row_set(store, apart)).panels]
    assert titles == ["local, all of D_P′", "local, 64 of D_P′"]
    twice = [(runs[0][0], runs[0][1]), (runs[3][0], runs[0][1])]
    with pytest.raises(UserError, match="two runs of CE on one dataset"):
        CHARTS["gains"](row_set(store, twice))
    with pytest.raises(UserError, match="no run of loss=ce has a row"):
        CHARTS["gains"](row_set(store, [(run_id, run) for run_id, run in runs if "ce" not in run_id]))


def test_differences_are_those_of_the_table(bound, tmp_path):
    """CE and DIMP on two datasets with five seeds; DIMP is better, and four seeds are not drawn."""
    store, runs, truth = Store(tmp_path / "made"), [], "xy" * 100
    store.prepare()
    for dataset in ("one", "two"):
        for loss, rate in (("ce", 0.6), ("dimp", 0.8), ("imp", 0.8)):
            run = bound(f"loss={loss}")
            for seed in range(4 if loss == "imp" else 5):
                right = np.random.default_rng([seed, len(loss)]).uniform(size=len(truth)) < rate
                guess = "".join(
                    t if ok else {"x": "y", "y": "x"}[t] for t, ok in zip(truth, right, strict=True)
                )
                run_id = f"{dataset}{loss}{seed}"
                store.write_row(row(run_id, right.mean()), predictions_table(truth, guess))
                named = dataclasses.replace(run.dataset, name=dataset)
                runs.append((run_id, dataclasses.replace(run, seed=seed, dataset=named)))
    rows = row_set(store, runs)
    chart = CHARTS["differences"](rows)
    (panel,) = chart.panels
    assert (panel.title, chart.names) == ("trained on synthetic", ("one", "two", "all"))
    assert [s.label for s in panel.series] == ["dimp"]
    table = results_table(rows)
    (shown,) = [line[-2] for line in table.lines if line[1] == "dimp"]
    one, two, over = points(chart, "dimp")
    assert (over.x, over.y, over.low, over.high, over.n) == (2, shown.mean, shown.low, shown.high, 2)
    assert (one.y, one.low) == (two.y, two.low)
    assert one.low < one.y == pytest.approx(over.y)
    assert one.n == 5
    for file in write_figure(chart, tmp_path, "differences", "x"):
        assert shows(file, chart)
    drawn = svg.draw(chart).panels[0][1]
    assert drawn.count("<circle") == 3
    assert drawn.count("stroke-width") == 3  # an interval each
    with pytest.raises(UserError, match="no line has five seeds"):
        CHARTS["differences"](row_set(store, runs[:4]))
