"""Rows with seconds and weights, for tables and charts."""

import dataclasses

import numpy as np
import pyarrow as pa
import pytest

from support import rows
from synthweight.data.examples import Example
from synthweight.runs.store import PredictionTable, Store

WEIGHT = {"ce": 1.0, "imp": 0.5, "dimp": 0.25}
TRAIN = {"ce": 10.0, "imp": 11.0, "dimp": 12.0}


def parquet(loss):
    """Two epochs of two training examples, one swapped; the weights of DIMP double in the second."""
    examples = (Example("a", "a", None, "x"), Example("b", "b", None, "y", kind="swapped", origin="b"))
    scores = np.log(np.array([[0.9, 0.1], [0.8, 0.2]]))
    first = np.array([WEIGHT[loss], WEIGHT[loss] / (1 if loss == "ce" else 10)])
    train = PredictionTable("train", examples, ("x", "y"))
    weights = [first * (2**epoch if loss == "dimp" else 1) for epoch in (0, 1)]
    return pa.concat_tables(
        [
            PredictionTable("test", examples, ("x", "y")).at_epoch(2, scores, None),
            *(train.at_epoch(e + 1, None, w) for e, w in enumerate(weights)),
        ]
    )


def timed_row(run_id, seed, checkers, seconds, threads=2):
    """A row of two epochs, both with test metrics."""
    metrics = [
        {"test": {"accuracy": a + seed / 100, "macro_f1": a / 2}, "selection": {"accuracy": a}}
        for a in (0.5, 0.6)
    ]
    return rows.row(run_id, 0.0) | {
        "epochs": metrics,
        "data": {"test": {"sha256": "t"}, "synthetic": {"sha256": "s", "n": 100, "dropped": 4}},
        "config": {"source": {"name": "synthetic", "n": None}},
        "checkers": {"quality": None, "diversity": None} | checkers,
        "seconds": {"prepare": 99.0, "scores": 0.0, "weights": 0.0, "evaluate": 99.0} | seconds,
        "provenance": {"device": {"kind": "cpu", "name": "cpu"}, "threads": threads, "fallbacks": {}, "stacked": []},
    }  # fmt: skip


@pytest.fixture
def timed(bound, tmp_path):
    """A store, and (id, run) of CE, IMP and DIMP with two seeds; their quality checkers are qc0 and qc1."""
    store = Store(tmp_path / "made")
    store.prepare()
    runs, by_loss = [], {loss: bound(f"loss={loss}") for loss in WEIGHT}
    for seed in (0, 1):
        store.write_row(timed_row(f"qc{seed}", seed, {}, {"train": 4.0}), parquet("ce"))
        for loss, scores in (("ce", 0.0), ("imp", 3.0), ("dimp", 0.01)):
            checkers = {
                "imp": {"quality": f"qc{seed}", "diversity": f"ce{seed}"},
                "dimp": {"quality": f"qc{seed}"},
            }
            seconds = {"train": TRAIN[loss] + seed, "scores": scores}
            store.write_row(timed_row(f"{loss}{seed}", seed, checkers.get(loss, {}), seconds), parquet(loss))
            runs.append((f"{loss}{seed}", dataclasses.replace(by_loss[loss], seed=seed)))
    return store, runs


@pytest.fixture
def replace_row():
    """Replaces a row of `timed`: replace_row(store, id, change)."""

    def replace(store, run_id, change):
        content, table = store.row(run_id), store.table(run_id)
        store.json_path(run_id).unlink()
        store.write_row(change(content), table)

    return replace
