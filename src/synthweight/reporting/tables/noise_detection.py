"""The table of noise detection: how well weights tell swapped labels from clean ones, epoch by epoch."""

import pyarrow.compute as pc
import pyarrow.parquet as pq

from ...errors import UserError
from ...runs.store import Store
from ..render import Cell, Column, Number, Table
from ..rows import Label, RequestedRow, RowLabeler, RowSet, model_fact
from .results import METRICS, metric_cell, spread_legend

_LEGEND = (
    "Accuracy and macro F1 in % of the test set at the selected epoch. AUC: the probability that a clean "
    "training example has a larger weight, in that epoch, than an example with a swapped label; at 0.50 "
    "the weights do not tell them apart, below it swapped examples weigh more."
)


def weight_aucs(store: Store, run_id: str) -> list[float]:
    """The AUC of a run's weights for clean against swapped examples, per epoch; ties count one half.

    Raises:
        UserError: The run has no example with a swapped label, or no other.
    """
    from sklearn.metrics import roc_auc_score  # two seconds: the other tables do not pay for it

    table = pq.read_table(store.parquet(run_id), columns=["split", "epoch", "kind", "weight"])
    train = table.filter(pc.field("split") == "train")
    epochs, weights = train["epoch"].to_numpy(), train["weight"].to_numpy()
    clean = pc.not_equal(train["kind"], "swapped").to_numpy()
    if clean.all() or not clean.any():
        raise UserError(
            f"{run_id}: its labels are all swapped or none is: set corruption.swapped, above 0 and below 1"
        )
    return [float(roc_auc_score(clean[epochs == e], weights[epochs == e])) for e in sorted(set(epochs))]


def noise_detection_table(rows: RowSet) -> Table:
    """A line per dataset, loss and what else differs: accuracy, macro F1, and the weights' AUC per epoch.

    Raises:
        UserError: See `weight_aucs`.
    """
    labeler = RowLabeler([run for _, run in rows.trained])
    lines: dict[Label, list[RequestedRow]] = {}
    for r, run in rows.trained:
        lines.setdefault((rows.dataset(run), *labeler.label(run)), []).append(r)
    aucs = {r.id: weight_aucs(rows.store, r.id) for r, _ in rows.trained if r.id in rows.rows}
    epochs = max(map(len, aucs.values()), default=0)
    cells: list[list[Cell]] = []
    for label, requested in lines.items():
        finished = [aucs[r.id] for r in requested if r.id in aucs]
        cell: list[Cell] = [*label, *(metric_cell(rows, requested, metric) for metric in METRICS)]
        for e in range(epochs):
            # a run may have fewer epochs: that is no missing run
            values = [auc[e] for auc in finished if e < len(auc)]
            cell.append(Number.from_values(values, len(values) + len(requested) - len(finished), 2))
        cells.append(cell)
    columns = [Column("dataset"), *map(Column, labeler.columns), *map(Column.number, METRICS.values())]
    columns += [Column.number(f"AUC, epoch {e + 1}") for e in range(epochs)]
    return Table(columns, cells, [f"{spread_legend(cells)}. {_LEGEND}"], model_fact(rows))
