"""Rows are exactly those of the requested runs; what tells them apart labels the lines."""

import dataclasses

import pytest

from support.rows import predictions_table, row, row_set
from synthweight.errors import UserError
from synthweight.reporting.rows import RowLabeler, dataset_titles
from synthweight.runs.store import Store


@pytest.fixture
def made(bound, tmp_path):
    store = Store(tmp_path / "made")
    store.prepare()
    runs = [(f"ce{seed}", bound(f"seed={seed}")) for seed in (0, 1)]
    for run_id, _ in runs:
        store.write_row(row(run_id, 0.5), predictions_table())
    return store, runs


def test_missing_rows_are_named_or_counted(made):
    store, runs = made
    assert row_set(store, runs).missing == 0
    store.json_path("ce1").unlink()
    with pytest.raises(
        UserError, match=r"1 of 2 runs have no row, first ce1 \(local .* seed 1\): run synthweight sweep demo"
    ):
        row_set(store, runs)
    assert row_set(store, runs, partial=True).missing == 1


def test_damaged_row_is_named(made):
    store, runs = made
    store.json_path("ce0").write_text("{")
    with pytest.raises(UserError, match=r"ce0\.json: damaged"):
        row_set(store, runs)


def test_rows_of_two_kinds_of_device_are_refused(made):
    store, runs = made
    store.json_path("ce0").unlink()
    store.write_row(row("ce0", 0.5, device="cuda"), predictions_table())
    with pytest.raises(
        UserError, match=r"different kinds of device in one table: cpu \(ce1\), cuda \(ce0\): delete"
    ):
        row_set(store, runs)


def labels(*runs):
    labeler = RowLabeler(runs)
    return labeler.columns, [labeler.label(run) for run in runs]


def test_columns_are_what_tells_lines_apart(bound):
    assert labels(bound(), bound("selection=last"))[0] == ["trained on", "loss", "selection.split"]
    columns, lines = labels(bound("loss=focal"), bound("loss=focal", "loss.gamma=2"), bound())
    assert columns == ["trained on", "loss", "loss.gamma"]
    assert lines == [("synthetic", "focal", "1"), ("synthetic", "focal", "2"), ("synthetic", "ce", "–")]
    recipe_of_its_own = bound("model=minilm"), bound("model=bert_base", "optim.lr=1e-4")
    assert labels(*recipe_of_its_own)[0] == ["trained on", "loss", "model"]  # the model explains the recipe
    assert labels(bound(), bound("seed=1", "logger=csv"))[0] == ["trained on", "loss"]


def test_a_dataset_is_called_by_its_folder_where_its_name_does_not_tell():
    assert list(dataset_titles([("local", "/d/one"), ("financial", "")]).values()) == ["local", "financial"]
    places = [("local", "/d/one"), ("local", "/d/two"), ("local", "/d/one"), ("financial", "")]
    assert list(dataset_titles(places).values()) == ["one", "two", "financial"]
    assert list(dataset_titles([("local", "/a/x/data"), ("local", "/b/x/data")]).values()) == [
        "a/x/data",
        "b/x/data",
    ]
    assert list(dataset_titles([("mrpc", ""), ("mrpc", "/d/mine")]).values()) == ["mrpc", "mine"]
    assert list(dataset_titles([("local", "/d/mrpc"), ("local", "/d/b"), ("mrpc", "")]).values()) == [
        "d/mrpc",
        "d/b",
        "mrpc",
    ]


def test_the_folder_of_a_dataset_is_no_column(bound):
    one, two = bound("dataset.path=/d/one"), bound("dataset.path=/d/two", "dataset.labels=[a,b]")
    assert labels(one, two, bound("loss=imp", "dataset.path=/d/two")) == (
        ["trained on", "loss"], [("synthetic", "ce"), ("synthetic", "ce"), ("synthetic", "imp")],
    )  # fmt: skip


def test_bf16_and_fp32_in_one_table_are_refused(bound, tmp_path):
    store = Store(tmp_path / "made")
    store.prepare()
    made = row("ce0", 0.5)
    store.write_row(made, predictions_table())
    fallback = {"provenance": made["provenance"] | {"fallbacks": {"precision": "32"}}}
    store.write_row(row("ce1", 0.5, **fallback), predictions_table())
    with pytest.raises(UserError, match=r"cpu \(ce0\), cpu in 32-bit precision \(ce1\)"):
        row_set(store, [(f"ce{seed}", dataclasses.replace(bound("loss=ce"), seed=seed)) for seed in (0, 1)])
