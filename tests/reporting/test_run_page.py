"""A run's page: its curves, its mistakes with their texts, and its weights."""

import json
import re

import pytest

from synthweight.errors import UserError
from synthweight.reporting.run_page import run_page
from synthweight.runs import run
from synthweight.runs.identity import identify
from synthweight.runs.store import Store


@pytest.fixture
def finished(bound):
    """A toy run of DIMP with its checker: the folder of outputs, its id, and the folders that it used."""
    settings = bound("loss=dimp", "optim.epochs=1", "optim.epochs_small_real=1", "optim.lr=0.0001")
    run.train(settings)
    return Store(settings.paths.outputs), identify(settings).id, settings.paths


def mistakes(page):
    """The titles and the rows of the table of mistakes."""
    found = json.loads(re.search(r'id="mistakes"><script type="application/json">(.*?)</script>', page)[1])
    return [title for title, _ in found["columns"]], found["rows"]


def test_a_runs_page(finished, toy):
    store, run_id, paths = finished
    page, row = run_page(store, run_id, paths), store.row(run_id)
    test = row["epochs"][row["selected_epoch"] - 1]["test"]
    assert f"accuracy <strong>{100 * test['accuracy']:.1f} %</strong>" in page
    assert f"Its quality checker is the run {row['checkers']['quality']}." in page
    for part in (
        "Training loss",
        "Reliability",
        "Confusion matrix",
        "Histogram of the weights",
        "optim.batch_size",
    ):
        assert part in page
    titles, rows = mistakes(page)
    assert titles == ["id", "text", "true", "predicted", "p(predicted)"]
    n = row["data"]["test"]["n"]
    assert len(rows) == n - round(test["accuracy"] * n) > 0
    lines = (toy / "test.jsonl").read_text(encoding="utf-8").splitlines()
    assert all(json.loads(lines[int(r[0].removeprefix("test:"))])["text"] == r[1] for r in rows)
    assert [r[-1] for r in rows] == sorted((r[-1] for r in rows), reverse=True)

    (toy / "test.jsonl").rename(toy / "away.jsonl")
    try:
        titles, _ = mistakes(page := run_page(store, run_id, paths))
    finally:
        (toy / "away.jsonl").rename(toy / "test.jsonl")
    assert "text" not in titles
    assert "Their texts are not shown" in page


def test_a_run_without_a_row_is_named(tmp_path, bound):
    with pytest.raises(UserError, match=r"0123456789abcdef\.json: no such row"):
        run_page(Store(tmp_path), "0123456789abcdef", bound().paths)
