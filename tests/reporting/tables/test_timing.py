"""Seconds from rows, by hand."""

import csv
import io

import pytest

from support.rows import row_set
from synthweight.errors import UserError
from synthweight.reporting.render import to_csv, to_markdown
from synthweight.reporting.tables.timing import timing_table


def by_loss(store, runs, partial=False):
    text = to_csv(timing_table(row_set(store, runs, partial=partial)))
    return {line["loss"]: line for line in csv.DictReader(io.StringIO(text))}


def test_seconds_by_hand(timed):
    lines = by_loss(*timed)
    assert [lines["ce"][k] for k in ("build QC", "build DC", "weights", "train", "total", "× CE")] == [
        "0", "0", "0", "10.5", "10.5", "1",
    ]  # fmt: skip
    imp = lines["imp"]
    assert [imp[k] for k in ("build QC", "build DC", "weights", "train")] == ["4", "10.5", "3", "11.5"]
    assert (imp["total"], imp["total, shared DC"], imp["total n"]) == ("29", "18.5", "2")
    assert imp["× CE"] == f"{(28 / 10 + 30 / 11) / 2:.6g}"
    assert imp["× CE, shared DC"] == f"{(18 / 10 + 19 / 11) / 2:.6g}"
    assert imp["total sd"] == f"{2**0.5:.6g}"
    assert imp["paper × CE"] == "2.20"
    dimp = lines["dimp"]  # IMP had computed its scores: it is charged what IMP paid
    assert [dimp[k] for k in ("build QC", "build DC", "weights", "train", "total")] == [
        "4",
        "0",
        "3",
        "12.5",
        "19.5",
    ]


def test_rows_in_any_order_give_the_same_times(timed):
    store, runs = timed
    assert by_loss(store, [runs[i] for i in (3, 4, 2, 0, 1, 5)]) == by_loss(store, runs)


def test_a_checker_without_a_row_is_named(timed):
    store, runs = timed
    store.json_path("qc1").unlink()
    with pytest.raises(UserError, match="qc1: no row, though it is the quality checker of imp1"):
        by_loss(store, runs)


def test_seconds_of_different_machines_are_refused(timed, replace_row):
    store, runs = timed
    assert "Machine: cpu, 2 threads." in to_markdown(timing_table(row_set(store, runs)))
    provenance = store.row("ce0")["provenance"]
    replace_row(store, "ce0", lambda row: row | {"provenance": provenance | {"threads": 1}})
    with pytest.raises(UserError, match="different machines in one table: cpu, 1 threads; cpu, 2 threads"):
        by_loss(store, runs)


def test_missing_runs_are_holes(timed):
    store, runs = timed
    store.json_path("dimp1").unlink()
    dimp = by_loss(store, runs, partial=True)["dimp"]
    assert (dimp["total n"], dimp["total missing"]) == ("1", "1")


def test_the_checkers_of_folds_are_paid_for(timed, replace_row):
    store, runs = timed
    for seed in (0, 1):
        more = {
            "diversity": None,
            "diversity/0": f"ce{seed}",
            "diversity/1": f"qc{seed}",
            "quality/0": f"qc{seed}",
        }
        replace_row(store, f"imp{seed}", lambda row, more=more: row | {"checkers": row["checkers"] | more})
    imp = by_loss(store, runs)["imp"]
    assert (imp["build QC"], imp["build DC"]) == ("8", "14.5")
