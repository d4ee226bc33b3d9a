"""Tables come out of rows, whatever their order, and say what is not there."""

import dataclasses

import numpy as np
import pytest

from synthweight.data.examples import Example
from synthweight.errors import UserError
from synthweight.reporting import marks as compare
from synthweight.reporting import render as formats
from synthweight.reporting.rows import Wanted, gather
from synthweight.reporting.tables import results
from synthweight.runs import identity
from synthweight.runs.store import PredictionTable, Store


def parquet():
    """Two test examples, the first right and the second wrong."""
    examples = (Example("test:0", "a", None, "x"), Example("test:1", "b", None, "y"))
    return PredictionTable("test", examples, ("x", "y")).at_epoch(2, np.log(np.array([[0.9, 0.1], [0.8, 0.2]])), None)


def found(store, runs, partial=False, mixed=False):
    wanted = [Wanted(run_id, f"settings of {run_id}", run) for run_id, run in runs]
    return gather(store, wanted, "demo", partial, mixed)


def render(store, runs, partial=False, mixed=False, kind="md"):
    return formats.FORMATS[kind](results.results(found(store, runs, partial, mixed)), None)


def row(run_id, accuracy, device="cpu", version=identity.VERSION, sha="s", settings=None, finished="2026-01-01"):
    m = {"accuracy": accuracy, "macro_f1": accuracy / 2}
    return {
        "format": 1, "id": run_id, "settings_id": settings or f"settings of {run_id}",
        "version": version, "selected_epoch": 2, "labels": ["x", "y"],
        "epochs": [{"test": {"accuracy": 0.0, "macro_f1": 0.0}}, {"test": m, "selection": {"accuracy": accuracy}}],
        "provenance": {"device": {"kind": device}, "finished": finished}, "data": {"test": {"sha256": sha}},
    }  # fmt: skip


@pytest.fixture
def made(bound, tmp_path):
    store = Store(tmp_path / "made")
    store.prepare()
    base = bound()
    runs = [
        (f"{loss}{seed}", dataclasses.replace(bound(f"loss={loss}"), seed=seed)) for loss in ("ce", "dimp") for seed in (0, 1, 2)
    ]
    for i, (run_id, _) in enumerate(runs):
        store.write_row(row(run_id, 0.5 + i / 100), parquet())
    assert base.source.name == "synthetic"
    return store, runs


def test_mean_deviation_and_n(made):
    store, runs = made
    assert render(store, runs).splitlines() == [
        "| trained on | loss | local accuracy | local macro F1 |",
        "|---|---|---|---|",
        "| synthetic | ce | **51.0 ± 1.0** (n = 3) | **25.5 ± 0.5** (n = 3) |",
        "| synthetic | dimp | **54.0 ± 1.0** (n = 3) | **27.0 ± 0.5** (n = 3) |",
        "",
        compare.LEGEND,
    ]


def test_one_seed_has_no_spread(made):
    store, runs = made
    assert "| 50.0 (n = 1) | 25.0 (n = 1) |" in render(store, runs[:1])


@pytest.mark.parametrize("kind", formats.FORMATS)
def test_rows_in_any_order_give_the_same_bytes(made, kind):
    store, runs = made
    swapped = [runs[i] for i in (2, 0, 1, 5, 4, 3)]
    assert render(store, swapped, kind=kind) == render(store, runs, kind=kind)


def test_a_missing_row_is_named_or_shown_as_a_hole(made):
    store, runs = made
    store.json_path("dimp1").unlink()
    with pytest.raises(UserError, match=r"1 of 6 runs have no row, first dimp1 .* synthweight sweep demo"):
        render(store, runs)
    assert "54.0 ± 1.4 (n = 2) [1 missing]" in render(store, runs, partial=True)
    for seed in (0, 2):
        store.json_path(f"dimp{seed}").unlink()
    assert "| – [3 missing] |" in render(store, runs, partial=True)


def test_a_damaged_row_is_named(made):
    store, runs = made
    store.json_path("ce0").write_text("{")
    with pytest.raises(UserError, match=r"ce0\.json: damaged"):
        render(store, runs)


@pytest.mark.parametrize("change", [{"device": "cuda"}, {"version": 2}])
def test_mixtures_are_refused(made, change):
    store, runs = made
    store.json_path("ce0").unlink()
    store.write_row(row("ce0", 0.5, **change), parquet())
    with pytest.raises(UserError, match="in one table"):
        render(store, runs)


def test_mixed_marks_the_rows_of_another_device(made):
    store, runs = made
    store.json_path("ce0").unlink()
    store.write_row(row("ce0", 0.5, device="cuda"), parquet())
    text = render(store, runs, mixed=True)
    assert "| **51.0 ± 1.0**‡ (n = 3) |" in text
    assert "**54.0 ± 1.0** (n = 3)" in text
    assert "(--mixed): 1 on cuda (the others: cpu)." in text


def test_mixed_takes_the_newest_row_of_the_same_settings(made):
    store, runs = made
    store.json_path("ce0").unlink()
    kept = [("old", 0.10, "2025-01-01"), ("new", 0.59, "2025-06-01"), ("older", 0.20, "2024-01-01")]
    for run_id, accuracy, finished in kept:
        version = identity.VERSION - 1
        store.write_row(row(run_id, accuracy, version=version, settings="settings of ce0", finished=finished), parquet())
    with pytest.raises(UserError, match=r"first ce0 .*; 1 of them have one of another VERSION or other data: --mixed takes it"):
        render(store, runs)
    text = render(store, runs, mixed=True)
    assert "54.0 ± 4.4**‡ (n = 3)" in text  # 59, 51, 52
    assert f"1 of VERSION {identity.VERSION - 1}." in text
    store.json_path("older").write_text("{")
    with pytest.raises(UserError, match=r"older\.json: damaged"):
        render(store, runs, mixed=True)


def test_mixed_names_what_nothing_fills(made):
    store, runs = made
    store.json_path("ce0").unlink()
    with pytest.raises(UserError, match="1 of 6 runs have no row, first ce0"):
        render(store, runs, mixed=True)
    assert "[1 missing]" in render(store, runs, partial=True, mixed=True)


def test_mixed_rows_of_another_test_set_are_shown_but_not_tested(made):
    store, runs = made
    store.json_path("ce0").unlink()
    others = (Example("test:0", "a", None, "y"), Example("test:1", "b", None, "y"))
    table = PredictionTable("test", others, ("x", "y")).at_epoch(2, np.log(np.array([[0.9, 0.1], [0.8, 0.2]])), None)
    store.write_row(row("other", 0.5, settings="settings of ce0", sha="another"), table)
    text = render(store, runs, mixed=True)
    assert "51.0 ± 1.0‡ (n = 3)" in text
    assert compare.LEGEND not in text
    assert "1 of other data." in text


def test_columns_for_what_differs(made, bound):
    store, _ = made
    runs = [("ce0", bound()), ("ce1", bound("selection=last"))]
    assert render(store, runs).splitlines()[0].startswith("| trained on | loss | selection.split | local")
    runs = [("ce0", bound("loss=focal")), ("ce1", bound("loss=focal", "loss.gamma=2")), ("ce2", bound())]
    lines = render(store, runs).splitlines()
    assert lines[0].startswith("| trained on | loss | loss.gamma | local")
    assert [line.split(" | ")[:3] for line in lines[2:]] == [
        ["| synthetic", "focal", "1"], ["| synthetic", "focal", "2"], ["| synthetic", "ce", "–"],
    ]  # fmt: skip
    pair = [("ce0", bound("model=minilm")), ("ce1", bound("model=bert_base", "optim.lr=1e-4"))]
    assert "| model | local" in render(store, pair)  # the recipe follows the model: no column of its own


def test_the_papers_numbers_stand_beside_ours(made, bound):
    store, _ = made
    runs = [("ce0", dataclasses.replace(bound(), dataset=dataclasses.replace(bound().dataset, name="financial")))]
    assert render(store, runs).splitlines() == [
        "| trained on | loss | financial accuracy | financial macro F1 | paper |",
        "|---|---|---|---|---|",
        "| synthetic | ce | 50.0 (n = 1) | 25.0 (n = 1) | 77.39 / 74.01 |",
    ]


def method(loss, predictions, selection=0.5, block=("synthetic",)):
    return compare.Method((*block, loss), block, loss, selection, predictions)


def answers(share, seeds=3, n=600, seed=0):
    return (np.random.default_rng(seed).random((seeds, n)) >= share).astype(np.int64)  # the truth is 0


def test_marks_and_bold():
    methods = [
        method("ce", answers(0.60, seed=1), 0.6), method("focal", answers(0.70, seed=2), 0.7),
        method("imp", answers(0.90, seed=3)), method("dimp", answers(0.89, seed=4)), method("filter", answers(0.61, seed=5)),
    ]  # fmt: skip
    found = compare.verdicts(methods, np.zeros(600, dtype=np.int64), 2, ["accuracy"])
    marks = {label[-1]: (v.marks, v.bold) for (label, _), v in found.items()}
    assert marks == {
        "ce": ("†", False), "focal": ("*", False), "imp": ("*†", True), "dimp": ("*†", True), "filter": ("†", False),
    }  # fmt: skip


def test_the_best_baseline_is_chosen_on_dprime_not_on_test():
    methods = [method("ce", answers(0.9), 0.5), method("focal", answers(0.5), 0.8), method("imp", answers(0.7))]
    assert compare.best_baseline(methods, [0, 1, 2]) == 1
    unknown = [method("ce", answers(0.9), None), method("focal", answers(0.5), 0.8)]
    assert compare.best_baseline(unknown, [0, 1]) is None


def test_lines_are_compared_within_their_block_alone():
    methods = [method("ce", answers(0.5)), method("imp", answers(0.9), block=("large_real",))]
    found = compare.verdicts(methods, np.zeros(600, dtype=np.int64), 2, ["accuracy"])
    assert set(found.values()) == {compare.Verdict("", False)}


def test_two_datasets_are_no_spread_of_seeds(made, bound, toy):
    store, _ = made
    runs = [("ce0", bound()), ("ce1", bound(f"dataset.path={toy.parent}", "seed=1"))]
    assert "| dataset.path |" in render(store, runs).splitlines()[0]
    twice = [("ce0", bound()), ("ce1", bound())]
    with pytest.raises(UserError, match="no spread of seeds"):
        render(store, twice)
    store.json_path("ce1").unlink()
    store.write_row(row("ce1", 0.5, sha="other"), parquet())
    with pytest.raises(UserError, match="two test sets, in one cell"):
        render(store, [("ce0", bound()), ("ce1", bound("seed=1"))])


def test_a_seed_that_all_lines_lack_leaves_the_others_compared(made):
    store, runs = made
    for loss in ("ce", "dimp"):
        store.json_path(f"{loss}1").unlink()
    table = render(store, runs, partial=True)
    assert "**51.0 ± 1.4** (n = 2) [1 missing]" in table
    assert compare.LEGEND in table
