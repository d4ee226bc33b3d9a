"""`synthweight report RUN_ID`: one run as a page, from its row; with texts where the data are on this machine."""

from dataclasses import fields
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from .. import __version__
from ..config.overrides import flat
from ..config.schema import Dataset
from ..data import benchmarks
from ..data.examples import text_hash
from ..errors import UserError
from ..runs.store import Store
from . import pages, svg
from .charts import Chart, ChartSeries, Panel, Point
from .rows import Row, RowLabeler, selected_epoch
from .sweep_page import MOST_CLASSES, provenance
from .tables.results import METRICS

if TYPE_CHECKING:
    from ..config.schema import Paths

MOST_MISTAKES = 200


def run_page(store: Store, run_id: str, paths: "Paths") -> str:
    """The page of a run.

    Args:
        store: The folder of outputs.
        run_id: Its id.
        paths: The folders in which the data may be.

    Raises:
        UserError: The run has no row, or one that is damaged.
    """
    row, table = store.row(run_id), store.table(run_id)
    test = table.filter(pc.field("split") == "test")
    train = table.filter(pc.field("split") == "train")
    labels: list[str] = row["labels"]
    position = {label: i for i, label in enumerate(labels)}
    answered = test.filter(pc.is_valid(test["prediction"]))  # an LLM's answer may be no class at all
    true, predicted = (
        np.array([position[name] for name in answered[c].to_pylist()], dtype=np.int64)
        for c in ("label", "prediction")
    )
    log_probs = (
        np.array(test["log_probs"].to_pylist(), dtype=np.float64)
        if test["log_probs"].null_count == 0
        else None
    )
    config = row["config"]
    texts = available_texts(config["dataset"], paths)
    mistakes = None if log_probs is None else mistakes_table(test, log_probs, texts)
    weights, kinds = weights_of(train, row["selected_epoch"])
    names = [
        config["dataset"]["name"],
        *(config[key]["name"] for key in ("source", "loss", "model") if key in config),
    ]
    return pages.render(
        "run.html.j2",
        id=run_id,
        name=f"{', '.join(names)}, seed {config['seed']}",
        version=__version__,
        row=row,
        test=selected_epoch(row)["test"],
        curves=svg.draw(curves(row)) if row["kind"] == "train" else None,
        confusion=pages.confusion(true, predicted, len(labels)).tolist()
        if len(labels) <= MOST_CLASSES
        else None,
        reliability=None if log_probs is None else pages.reliability(log_probs, true),
        mistakes=mistakes,
        wrong=len(test) - int((true == predicted).sum()),
        unanswered=len(test) - len(answered),
        texts=bool(texts),
        histogram=pages.histogram(weights.tolist()),
        kinds=kinds,
        trained_on=len(weights),
        checkers={role: i for role, i in row.get("checkers", {}).items() if i},
        seconds={part: value for part, value in row.get("seconds", {}).items() if value},
        settings=[(key, RowLabeler.text(value)) for key, value in flat(config)],
        provenance=provenance([row]),
    )


def curves(row: Row) -> Chart:
    """Training loss and metrics after each epoch of one run."""

    def series(label: str, loss: str, values: list[Any]) -> list[ChartSeries]:
        points = [
            Point.from_values(i, [value]) for i, value in enumerate(values, start=1) if value is not None
        ]
        return [ChartSeries(label, loss, tuple(points))] if points else []

    epochs = row["epochs"]
    panels = [
        Panel(
            "Training loss",
            "weighted loss",
            tuple(series("training", "ce", [e["train_loss"] for e in epochs])),
        )
    ]
    for metric, title in METRICS.items():
        drawn = []
        for split, loss in (("selection", "imp"), ("test", "dimp")):
            drawn += series(split, loss, [e[split] and 100 * e[split][metric] for e in epochs])
        panels.append(Panel(title[0].upper() + title[1:], f"{title} (%)", tuple(drawn)))
    notes = (f"After each epoch; epoch {row['selected_epoch']} was selected.",)
    return Chart("lines", "epoch", tuple(panel for panel in panels if panel.series), 3, notes)


def available_texts(settings: dict[str, Any], paths: "Paths") -> dict[str, str]:
    """The texts of the dataset's test set by their hash, where a file of it is on this machine; nothing is fetched."""
    unknown = {f.name: None for f in fields(Dataset)}  # settings that came later than the row
    dataset = Dataset(**{**unknown, **settings})
    try:
        path = benchmarks.find_split(dataset, "test", paths.data, paths.cache)
        examples = benchmarks.read_split(path, "test").examples if path else ()
    except UserError:  # a folder that is gone, a file that was changed: the page does without texts
        return {}
    return {text_hash(e): " ⧸ ".join(t for t in (e.text, e.text_pair) if t) for e in examples}


def mistakes_table(test: pa.Table, log_probs: np.ndarray, texts: dict[str, str]) -> dict[str, Any]:
    """The wrong predictions on test, the most confident first."""
    p = np.exp(log_probs)
    order = np.argsort(-p.max(axis=1), kind="stable")
    ids, hashes, true, predicted = (test[c].to_pylist() for c in ("id", "text_sha256", "label", "prediction"))
    columns = [
        ("id", "text"),
        *([("text", "long")] if texts else []),
        ("true", "text"),
        ("predicted", "text"),
    ]
    columns.append(("p(predicted)", "number"))
    rows = [
        [
            ids[i],
            *([texts.get(hashes[i], "")] if texts else []),
            true[i],
            predicted[i],
            round(float(p[i].max()), 4),
        ]
        for i in order
        if true[i] != predicted[i]
    ]
    last = len(columns) - 1
    return pages.long_table(columns, rows[:MOST_MISTAKES], last, [last - 2, last - 1], descending=True)


def weights_of(train: pa.Table, epoch: int) -> tuple[np.ndarray, list[tuple[str, int, float]]]:
    """The weights in an epoch, and (kind, number, mean weight) of each kind of example."""
    at = train.filter(pc.field("epoch") == epoch)
    at = at.filter(pc.is_valid(at["weight"]))
    values = at["weight"].to_numpy().astype(np.float64)
    kinds = np.array(at["kind"].to_pylist())
    means = [(str(k), int((kinds == k).sum()), float(values[kinds == k].mean())) for k in np.unique(kinds)]
    return values, means
