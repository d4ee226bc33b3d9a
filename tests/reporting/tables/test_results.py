"""The table of results: the same for rows in any order; what is missing and what is tested."""

import dataclasses
import subprocess
import sys

import numpy as np
import pytest

from support.rows import predictions_table, row, row_set
from synthweight.errors import UserError
from synthweight.reporting.render import FORMATS
from synthweight.reporting.tables.results import POOLED, TESTED, UNTESTED, results_table
from synthweight.runs.store import Store


def render(store, runs, partial=False, kind="md"):
    return FORMATS[kind](results_table(row_set(store, runs, partial=partial)), None)


@pytest.fixture
def store(tmp_path):
    made = Store(tmp_path / "made")
    made.prepare()
    return made


@pytest.fixture
def made(bound, store):
    """CE and DIMP with three seeds: accuracies of 50 to 55 %."""
    by_loss = {loss: bound(f"loss={loss}") for loss in ("ce", "dimp")}
    runs = [
        (f"{loss}{s}", dataclasses.replace(run, seed=s)) for loss, run in by_loss.items() for s in range(3)
    ]
    for i, (run_id, _) in enumerate(runs):
        store.write_row(row(run_id, 0.5 + i / 100), predictions_table())
    return store, runs


def test_mean_deviation_and_n(made):
    assert render(*made).splitlines() == [
        "All lines: dataset local, model tiny, trained on synthetic.",
        "",
        "| loss | accuracy | macro F1 |",
        "|---|---:|---:|",
        "| ce | 51.0 ± 1.0 | 25.5 ± 0.5 |",
        "| dimp | 54.0 ± 1.0 | 27.0 ± 0.5 |",
        "",
        f"Mean ± sample standard deviation over n = 3 seeds, in % of the test set. {UNTESTED}",
    ]


def test_one_seed_has_no_spread(made):
    store, runs = made
    text = render(store, runs[:1])
    assert "| 50.0 | 25.0 |" in text
    assert "One seed, no spread, in %" in text


def test_a_csv_keeps_every_column(made):
    head, first, _ = render(*made, kind="csv").splitlines()
    assert head.startswith("trained on,loss,local accuracy,local accuracy sd,")
    assert first.startswith("synthetic,ce,51,1,3,,0,0,")


@pytest.mark.parametrize("kind", FORMATS)
def test_rows_in_any_order_give_the_same_bytes(made, kind):
    store, runs = made
    swapped = [runs[i] for i in (2, 0, 1, 5, 4, 3)]
    assert render(store, swapped, kind=kind) == render(store, runs, kind=kind)


def test_datasets_of_one_name_at_two_paths_are_two_columns(bound, store):
    """By dataset.path, or by paths.data: another folder holds other data, whatever they are called."""
    for n, key in enumerate(
        ("dataset.path=/d/{}/reviews", "dataset.path=null dataset.name=reviews paths.data=/d/{}")
    ):
        runs = [(f"{n}{folder}", bound(*key.format(folder).split())) for folder in ("one", "two")]
        for i, (run_id, _) in enumerate(runs):
            store.write_row(row(run_id, 0.5 + i / 10, sha=run_id), predictions_table())
        lines = render(store, runs).splitlines()
        titles = [
            f"{folder}/reviews {metric}" for folder in ("one", "two") for metric in ("accuracy", "macro F1")
        ]
        assert f"| trained on | loss | {' | '.join(titles)} |" in lines
        assert "| synthetic | ce | 50.0 | 25.0 | 60.0 | 30.0 |" in lines


def test_missing_rows_are_holes(made):
    store, runs = made
    store.json_path("dimp1").unlink()
    assert "54.0 ± 1.4 (n = 2) [1 missing]" in render(store, runs, partial=True)
    for seed in (0, 2):
        store.json_path(f"dimp{seed}").unlink()
    assert "| – [3 missing] |" in render(store, runs, partial=True)


def test_papers_numbers_are_shown_beside(made, bound):
    store, _ = made
    runs = [
        ("ce0", dataclasses.replace(bound(), dataset=dataclasses.replace(bound().dataset, name="financial")))
    ]
    assert render(store, runs).splitlines()[2:5] == [
        "| trained on | loss | accuracy | macro F1 | paper |",
        "|---|---|---:|---:|---:|",
        "| synthetic | ce | 50.0 | 25.0 | 77.39 / 74.01 |",
    ]


def test_a_cell_is_of_different_seeds_on_one_test_set(made, bound):
    store, _ = made
    with pytest.raises(UserError, match="no spread over seeds"):
        render(store, [("ce0", bound()), ("ce1", bound())])
    store.json_path("ce1").unlink()
    store.write_row(row("ce1", 0.5, sha="other"), predictions_table())
    with pytest.raises(UserError, match="two test sets, in one cell"):
        render(store, [("ce0", bound()), ("ce1", bound("seed=1"))])


def five_seeds(store, bound, dataset, gain):
    """CE and IMP with five seeds on 200 examples: IMP is right at so many more."""
    truth = "xy" * 100
    runs = []
    for loss, right in (("ce", 120), ("imp", 120 + gain)):
        first = bound(f"loss={loss}")
        first = dataclasses.replace(first, dataset=dataclasses.replace(first.dataset, name=dataset))
        for seed in range(5):
            order = np.random.default_rng(seed).permutation(200)
            wrong = set(order[right - seed :])
            predicted = "".join("yx"[label == "y"] if i in wrong else label for i, label in enumerate(truth))
            run_id = f"{dataset}-{loss}{seed}"
            store.write_row(row(run_id, (right - seed) / 200), predictions_table(truth, predicted))
            runs.append((run_id, dataclasses.replace(first, seed=seed)))
    return runs


def test_five_seeds_are_tested(store, bound):
    runs = five_seeds(store, bound, "local", 40)
    lines = render(store, runs).splitlines()
    assert lines[4:6] == ["| ce | 59.0 ± 0.8 | 29.5 ± 0.4 |", "| imp | **79.0 ± 0.8*** | **39.5 ± 0.4*** |"]
    assert lines[-1] == f"Mean ± sample standard deviation over n = 5 seeds, in % of the test set. {TESTED}"
    store.json_path("local-imp3").unlink()
    text = render(store, runs, partial=True)
    assert "| **" not in text
    assert "| imp | 79.1 ± 0.9 (n = 4) [1 missing] |" in text
    assert text.splitlines()[-1].endswith(UNTESTED)


def test_lines_of_different_test_sets_are_not_compared(store, bound):
    runs = five_seeds(store, bound, "local", 40)
    for run_id, _ in runs[5:]:
        content, table = store.row(run_id), store.table(run_id)
        store.json_path(run_id).unlink()
        store.write_row(content | {"data": {"test": {"sha256": "other"}}}, table)
    runs[5:] = [
        (i, dataclasses.replace(run, dataset=dataclasses.replace(run.dataset, path="other")))
        for i, run in runs[5:]
    ]
    assert render(store, runs).splitlines()[-1].endswith(UNTESTED)


def test_differences_are_pooled_over_datasets(store, bound):
    runs = [
        pair
        for dataset, gain in (("a", 40), ("b", 20), ("c", 30))
        for pair in five_seeds(store, bound, dataset, gain)
    ]
    lines = render(store, runs).splitlines()
    assert lines[2].endswith("| c accuracy | c macro F1 | all: accuracy − CE | all: macro F1 − CE |")
    assert lines[4].endswith("| – | – |")
    assert "| +15.0 [+2." in lines[5]
    assert lines[-1] == POOLED
    other = [*runs[20:], *runs[:20]]
    assert render(store, other).splitlines()[5].split(" | ")[-2:] == lines[5].split(" | ")[-2:]
    assert POOLED not in render(store, runs[:15])


def test_a_table_of_few_seeds_imports_neither_torch_nor_scipy():
    code = (
        "import sys, synthweight.reporting.publish\n"
        "print(*{'torch', 'transformers', 'scipy.stats', 'sklearn', 'matplotlib'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
