"""The table of separation: how well each loss's weights tell swapped labels from clean ones, epoch by epoch."""

import numpy as np
import pyarrow.compute as pc
from sklearn.metrics import roc_auc_score

from ...errors import UserError
from ...runs.store import Store
from ..marks import Verdict
from ..render import MIXED, Cell, Column, Number, Table
from ..rows import Gathered, Lines, Wanted
from .results import METRICS, Label, number

LEGEND = (
    "Mean ± sample standard deviation over n seeds; accuracy and macro F1 in % of the test set at the selected epoch. AUC: the "
    "probability that the weight of a clean training example, as the epoch used it, is above that of one with a swapped label; "
    "0.50 tells nothing, below it the swapped ones weigh more."
)


def aucs(store: Store, run_id: str) -> list[float]:
    """AUC of the weights for clean against swapped examples, in every epoch; ties count a half.

    Raises:
        UserError: the run has no example with a swapped label, or no other.
    """
    table = store.table(run_id).select(["split", "epoch", "kind", "weight"])
    train = table.filter(pc.field("split") == "train")
    epochs, weights = train["epoch"].to_numpy(), train["weight"].to_numpy()
    swapped = np.array([kind == "swapped" for kind in train["kind"].to_pylist()])
    if not swapped.any() or swapped.all():
        raise UserError(f"{run_id}: its labels are all swapped or none is: set corruption.swapped, above 0 and below 1")
    return [float(roc_auc_score(~swapped[epochs == e], weights[epochs == e])) for e in sorted(set(epochs))]


def separation(found: Gathered) -> Table:
    """A line per loss and dataset: accuracy, macro F1, and the AUC of its weights after each epoch. Raises UserError."""
    names = Lines([run for _, run in found.trained])
    lines: dict[Label, list[Wanted]] = {}
    for w, run in found.trained:
        lines.setdefault((run.dataset.name, *names(run)), []).append(w)
    by_run = {w.id: aucs(found.store, found.rows[w.id]["id"]) for w, _ in found.trained if w.id in found.rows}
    epochs = max(map(len, by_run.values()), default=0)
    cells: list[list[Cell]] = []
    for label, line in lines.items():
        there = [w for w in line if w.id in by_run]
        marks = MIXED * any(w.id in found.strange for w in there)
        cell: list[Cell] = [*label, *(number(found, line, metric, Verdict()) for metric in METRICS)]
        for e in range(epochs):
            values = [by_run[w.id][e] for w in there if e < len(by_run[w.id])]
            cell.append(Number.of(values, len(values) + len(line) - len(there), 2, marks))
        cells.append(cell)
    columns = [Column("dataset"), *map(Column, names.columns), *map(Column.number, METRICS.values())]
    columns += [Column.number(f"AUC, epoch {e + 1}") for e in range(epochs)]
    return Table(columns, cells, [LEGEND, *found.legend])
