"""A sweep's page: what is on it, from rows alone; and as a reader's browser shows it."""

import dataclasses
import json
import re
from types import SimpleNamespace

import numpy as np
import pytest

from support.browser import NO_CHROMIUM, Browser
from support.rows import predictions_table, row, row_set
from synthweight.errors import UserError
from synthweight.reporting.sweep_page import settings_difference, sweep_page
from synthweight.runs.store import Store

NASTY = "</script><script>alert(1)</script>"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """CE and IMP with six seeds on 200 examples, IMP with 40 more right: a page of made-up rows."""
    store = Store(tmp_path_factory.mktemp("made"))
    store.prepare()
    return store


@pytest.fixture
def rows(bound, made):
    """The rows of that store, one of them by another commit."""
    truth, runs = "xy" * 100, []
    for loss, right in (("ce", 120), ("imp", 160)):
        first = bound(f"loss={loss}")
        for seed in range(6):
            wrong = set(np.random.default_rng(seed).permutation(200)[right - seed :])
            predicted = "".join("yx"[label == "y"] if i in wrong else label for i, label in enumerate(truth))
            run_id = f"{loss}{seed}"
            runs.append((run_id, dataclasses.replace(first, seed=seed)))
            if not made.exists(run_id):
                made.write_row(
                    full_row(run_id, loss, seed, (right - seed) / 200), predictions_table(truth, predicted)
                )
    return row_set(made, runs)


def full_row(run_id, loss, seed, accuracy):
    """A row with all that a page reads."""
    basic = row(run_id, accuracy)
    epochs = [e | {"train_loss": 1.0 / (i + 1)} for i, e in enumerate(basic["epochs"])]
    made_by = {
        "commit": "b" * 40 if run_id == "imp0" else "a" * 40,
        "dirty": False,
        "versions": {"torch": "2"},
        "argv": [NASTY],
    }
    return basic | {
        "epochs": epochs,
        "config": {"loss": {"name": loss}, "seed": seed, "source": {"name": "synthetic", "n": None}},
        "data": basic["data"] | {"synthetic": {"sha256": "s", "n": 100, "dropped": 0}},
        "checkers": {"quality": None, "diversity": None},
        "seconds": {"scores": 0.0, "weights": 0.0, "train": 10.0 + seed},
        "provenance": basic["provenance"]
        | made_by
        | {"started": "2026-01-01T00:00:00", "finished": "2026-01-02T00:00:00"},
    }


def long_table(page, name):
    """The JSON of a table that the script shows."""
    found = re.search(rf'id="{name}"><script type="application/json">(.*?)</script>', page)
    return SimpleNamespace(**json.loads(found[1]))


def test_the_page_holds_everything_of_the_sweep(rows):
    page = sweep_page(rows, "demo loss=ce,imp")
    assert "<strong>78.8 ± 0.9</strong>*" in page
    pairs = long_table(page, "pairs")
    titles = [title for title, _ in pairs.columns]  # of one dataset: its column says nothing
    assert titles == ["metric", "first", "second", "first − second", "", "p", "seeds"]
    metric, first, second, text, (mean, low, high), p, seeds = pairs.rows[0]
    assert (metric, first, second, seeds) == ("accuracy", "ce", "imp", 6)
    assert text.startswith("−20.0 [−")
    assert low < mean == -20 < high < 0
    assert p < 0.05
    assert page.count("<title>seed 0: ") == 4  # two lines, two metrics
    assert "Confusion matrices" in page
    assert ">ce, 6 seeds<" in page
    assert "aaaaaaaaaaaa (11 runs); bbbbbbbbbbbb (1 runs)" in page
    assert "12.5 ± 1.9" in page  # seconds of training
    runs = long_table(page, "run-table")
    settings = [name for name, _ in runs.columns].index("settings, less those of the first run")
    assert [r[settings] for r in runs.rows[:2]] == ["", "seed=1"]
    assert runs.rows[7][settings] == "loss.name=imp, seed=1"


def test_nothing_is_loaded_and_no_text_leaves_its_place(rows):
    page = sweep_page(rows, NASTY)
    assert not re.search(r'(src|href)\s*=\s*"(?!#)|url\(|@import|https?://', page)
    assert "<script>alert" not in page


def test_a_sweep_without_tested_pairs_says_so(rows):
    few = dataclasses.replace(rows, requested=[r for r in rows.requested if r.run.seed < 3])
    few = dataclasses.replace(few, rows={r.id: rows.rows[r.id] for r in few.requested})
    page = sweep_page(few, "demo")
    pairs = long_table(page, "pairs")
    assert [name for name, _ in pairs.columns] == ["metric", "first", "second", "first − second", "", "seeds"]
    assert pairs.rows[0][3:] == ["−20.0", [-20.0, None, None], 3]
    assert "Pairs that share fewer than 5 seeds are not tested." in page


def test_missing_rows_are_counted_and_none_is_refused(rows):
    kept = {"ce0": rows.rows["ce0"]}
    page = sweep_page(dataclasses.replace(rows, rows=kept), "demo")
    assert "<strong>11 have no row yet</strong>" in page
    assert "No two lines share two seeds" in page
    with pytest.raises(UserError, match="demo: none of its 12 runs has a row"):
        sweep_page(dataclasses.replace(rows, rows={}), "demo")


def test_a_figure_that_rows_cannot_give_is_named(rows):
    page = sweep_page(rows, "demo", figures=["dynamics"])
    assert "Test after each epoch: dynamics: 12 of 12 rows, first ce0, have no test metrics" in page


def test_settings_by_what_differs():
    first = {"loss.name": "ce", "dataset.name": "a", "dataset.sha256.test": "1", "seed": 0}
    other = {
        "loss.name": "focal",
        "loss.gamma": 1.0,
        "dataset.name": "b",
        "dataset.sha256.test": "2",
        "seed": 0,
    }
    assert settings_difference(first, other) == "loss.name=focal, loss.gamma=1, dataset.name=b"
    assert settings_difference(other, first) == "loss.name=ce, dataset.name=a; without loss.gamma"
    assert settings_difference(first, first) == ""


@pytest.mark.browser
@NO_CHROMIUM
def test_the_page_in_a_browser(rows, tmp_path):
    path = tmp_path / "demo.html"
    path.write_text(sweep_page(rows, "demo"), encoding="utf-8")
    browser = Browser(tmp_path / "profile")
    try:
        browser.require_readable(path.as_uri())
        assert browser.errors == []
        assert [url for url in browser.requests if not url.startswith("file:")] == []
        assert (
            browser.evaluate("document.querySelectorAll('svg:not([aria-label]):not([aria-hidden])').length")
            == 0
        )
        losses = "[...document.querySelector('table.results').tBodies[0].rows].map(r => r.cells[0].textContent).join()"
        head = "document.querySelector('table.results').tHead.rows[0].cells[1]"
        assert browser.evaluate(losses) == "ce,imp"
        browser.evaluate(f"{head}.querySelector('button').click()")
        assert (browser.evaluate(losses), browser.evaluate(f"{head}.ariaSort")) == ("imp,ce", "descending")
        browser.evaluate(f"{head}.querySelector('button').click()")
        assert browser.evaluate(losses) == "ce,imp"
        shown = "document.querySelector('#run-table tbody').rows.length"
        assert browser.evaluate(shown) == 12
        search = "document.querySelector('#run-table input')"
        browser.evaluate(f"{search}.value = 'imp seed=1'; {search}.dispatchEvent(new Event('input'))")
        assert browser.evaluate(shown) == 1
    finally:
        browser.close()
