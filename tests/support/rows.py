"""Rows made by hand, and the keys of those that runs write."""

from typing import Any

import numpy as np

from synthweight.data.examples import Example
from synthweight.reporting.rows import RequestedRow, RowSet, gather_rows
from synthweight.runs.store import PredictionTable, Store

M = {"accuracy", "macro_f1", "nll", "ece", "per_class"}
KEYS = {
    "format", "id", "version", "kind", "config", "labels", "data", "checkers", "epochs", "selected_epoch",
    "guard_hits", "seconds", "provenance", "parquet_sha256", "temperatures",
}  # fmt: skip


def row(run_id: str, accuracy: float, device: str = "cpu", sha: str = "s", **more: Any) -> dict[str, Any]:
    """A row of two epochs with the second selected; macro F1 is half the accuracy."""
    m = {"accuracy": accuracy, "macro_f1": accuracy / 2}
    return {
        "format": 1, "id": run_id, "selected_epoch": 2, "labels": ["x", "y"],
        "epochs": [{"test": None, "selection": {"accuracy": 0.0}}, {"test": m, "selection": {"accuracy": accuracy}}],
        "provenance": {"device": {"kind": device, "name": device}, "threads": 2, "fallbacks": {}, "stacked": []},
        "data": {"test": {"sha256": sha}},
    } | more  # fmt: skip


def predictions_table(truth: str = "xy", predicted: str = "xx"):
    """The Parquet lines of a test set: a letter per example for its label and for the prediction."""
    examples = [Example(f"test:{i}", f"text {i}", None, label) for i, label in enumerate(truth)]
    chosen = np.array([["x", "y"].index(label) for label in predicted])
    log_probs = np.log(np.where(np.arange(2) == chosen[:, None], 0.9, 0.1))
    return PredictionTable("test", examples, ("x", "y")).at_epoch(2, log_probs, None)


def row_set(store: Store, runs: Any, sweep: str = "demo", partial: bool = False) -> RowSet:
    """The rows of (id, run) pairs."""
    return gather_rows(store, [RequestedRow(run_id, run) for run_id, run in runs], sweep, partial)
