"""Charts as numbers: what is drawn of a sweep's rows.

Intervals are minimum to maximum over seeds; those of `differences` are 95 % intervals.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import fmean
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ..errors import UserError
from .rows import METRICS, RequestedRow, Row, RowLabeler, RowSet, selected_epoch
from .tables.results import group_lines, judge_lines, pooled_cell
from .tables.timing import run_seconds

if TYPE_CHECKING:
    from ..config.schema import Run

CORRUPTION_KINDS = ("original", "swapped", "duplicated", "unrelated")
EDGES = np.linspace(-4, 2, 49)  # of log10 w: eight bins per decade, the outermost hold what lies beyond
PanelRuns = dict[tuple[str, str], "list[tuple[RequestedRow, Run]]"]  # by dataset and source


@dataclass(frozen=True)
class Point:
    """A mean over n seeds with minimum and maximum; the same for x where x is measured."""

    x: float
    y: float
    low: float
    high: float
    n: int
    x_low: float | None = None
    x_high: float | None = None

    @classmethod
    def from_values(cls, x: float, values: Sequence[float], xs: Sequence[float] | None = None) -> "Point":
        """The point of values at x, or at their own xs; the same digits in whatever order the rows come."""
        y = sorted(values)
        across = sorted(xs) if xs else None
        low, high = (across[0], across[-1]) if across else (None, None)
        return cls(fmean(across) if across else x, fmean(y), y[0], y[-1], len(y), low, high)


@dataclass(frozen=True)
class ChartSeries:
    """One series of a panel. `loss` gives its colour, marker and dash, the same in every figure."""

    label: str
    loss: str
    points: tuple[Point, ...]


@dataclass(frozen=True)
class Panel:
    """One pair of axes."""

    title: str
    y_label: str
    series: tuple[ChartSeries, ...]


@dataclass(frozen=True)
class Chart:
    """A figure's numbers and texts.

    Attributes:
        style: `lines`, `steps`, `bars` and `differences` (with the categories `names`), or `cloud`.
        x_label: Title of the x axis.
        panels: The panels, row by row.
        across: Panels per row.
        notes: The caption's sentences.
        names: The categories; a point's x is a position among them.
        x_log: Whether the x axis is logarithmic.
    """

    style: str
    x_label: str
    panels: tuple[Panel, ...]
    across: int
    notes: tuple[str, ...]
    names: tuple[str, ...] = ()
    x_log: bool = False


def runs_by_panel(rows: RowSet) -> PanelRuns:
    """The runs that have a row, by dataset and source. Raises UserError where none has."""
    out: PanelRuns = {}
    for r, run in rows.trained:
        if r.id in rows.rows:
            out.setdefault((rows.dataset(run), run.source.name), []).append((r, run))
    if not out:
        raise UserError("nothing to draw: no trained run of this sweep has a row")
    return out


def panel_title(rows: RowSet, panel: tuple[str, str]) -> str:
    """A panel's dataset, and its source where there are several."""
    sources = {run.source.name for _, run in rows.trained}
    return panel[0] if len(sources) < 2 else f"{panel[0]}, {panel[1]}"


def runs_by_series(
    rows: RowSet, runs: "list[tuple[RequestedRow, Run]]", *shown: str
) -> "Iterator[tuple[str, str, list[tuple[RequestedRow, Run]]]]":
    """(label, loss, runs) of each series of a panel: by all that tells lines apart but the source and what is `shown` otherwise."""
    labeler = RowLabeler([run for _, run in rows.trained])
    out: dict[tuple[str, str], list[tuple[RequestedRow, Run]]] = {}
    for r, run in runs:
        texts = zip(labeler.keys, labeler.columns, labeler.label(run), strict=True)
        rest = [
            f"{name} {text}"
            for key, name, text in texts
            if key not in ("source.name", "loss.name", *shown) and text != "–"
        ]
        out.setdefault((", ".join([run.loss.name, *rest]), run.loss.name), []).append((r, run))
    yield from ((label, loss, members) for (label, loss), members in out.items())


def caption(rows: RowSet, panels: Sequence[Panel], what: str) -> tuple[str, ...]:
    """The sentences below a chart: what is shown, over how many seeds, and what is missing."""
    counts = sorted({p.n for panel in panels for s in panel.series for p in s.points})
    n = f"n = {counts[0]}" if len(counts) == 1 else f"n = {counts[0]} to {counts[-1]}" if counts else "n = 0"
    spread = f"mean over {n} seeds, minimum to maximum" if counts[-1:] > [1] else f"{n}: one seed, no spread"
    return (f"{what}; {spread}.", *incomplete(rows))


def incomplete(rows: RowSet) -> list[str]:
    """The sentence of a caption that says how many runs are missing, if any are."""
    return [f"INCOMPLETE: {rows.missing} of {len(rows.requested)} runs have no row."] * bool(rows.missing)


def dynamics(rows: RowSet) -> Chart:
    """Accuracy and macro F1 on test after each epoch.

    Raises:
        UserError: A run was evaluated on test at its selected epoch alone, or none has a row.
    """
    by_panel = runs_by_panel(rows)
    missing = [
        r
        for runs in by_panel.values()
        for r, _ in runs
        if any(e["test"] is None for e in rows.rows[r.id]["epochs"])
    ]
    if missing:
        raise UserError(
            f"dynamics: {len(missing)} of {len(rows.rows)} rows, first {missing[0].id}, have no test metrics "
            "after each epoch: set trainer.test=epoch in the sweep and run it"
        )

    def read(metric: str, epoch: Row) -> float:
        return 100 * epoch["test"][metric]

    panels: list[Panel] = []
    for metric, name in METRICS.items():
        panels += epoch_panels(rows, f"test {name} (%)", partial(read, metric))
    return Chart(
        "lines", "epoch", tuple(panels), len(by_panel), caption(rows, panels, "Test after each epoch")
    )


def epoch_panels(rows: RowSet, y_label: str, read: Callable[[Row], float | None]) -> list[Panel]:
    """A panel per dataset and source of what `read` gives of each epoch of a row; None is left out."""
    panels = []
    for panel, runs in runs_by_panel(rows).items():
        series = []
        for label, loss, members in runs_by_series(rows, runs):
            at: dict[int, list[float]] = {}
            for r, _ in members:
                for number, epoch in enumerate(rows.rows[r.id]["epochs"], start=1):
                    if (value := read(epoch)) is not None:
                        at.setdefault(number, []).append(value)
            if at:
                points = tuple(Point.from_values(number, at[number]) for number in sorted(at))
                series.append(ChartSeries(label, loss, points))
        panels.append(Panel(panel_title(rows, panel), y_label, tuple(series)))
    return panels


def training_curves(rows: RowSet) -> Chart:
    """What every row has of its epochs: the training loss, and the accuracy on what selects the epoch."""
    panels = [
        *epoch_panels(rows, "training loss", lambda e: e["train_loss"]),
        *epoch_panels(
            rows, "selection accuracy (%)", lambda e: e["selection"] and 100 * e["selection"]["accuracy"]
        ),
    ]
    drawn = tuple(panel for panel in panels if panel.series)
    notes = caption(rows, drawn, "After each epoch, the weighted loss in training and what selects the epoch")
    return Chart("lines", "epoch", drawn, len(runs_by_panel(rows)), notes)


def accuracy_curve(
    rows: RowSet, x: str, x_label: str, read: "Callable[[Run, Row], float]", log: bool
) -> Chart:
    """Accuracy on test at the selected epoch against a setting, whose value `read` gives."""
    panels = []
    for panel, runs in runs_by_panel(rows).items():
        series = []
        for label, loss, members in runs_by_series(rows, runs, x):
            at: dict[float, list[float]] = {}
            for r, run in members:
                row = rows.rows[r.id]
                at.setdefault(read(run, row), []).append(test_accuracy(row))
            series.append(ChartSeries(label, loss, tuple(Point.from_values(v, at[v]) for v in sorted(at))))
        panels.append(Panel(panel_title(rows, panel), "test accuracy (%)", tuple(series)))
    notes = caption(rows, panels, "At the selected epoch")
    return Chart("lines", x_label, tuple(panels), len(panels), notes, x_log=log)


def mixing(rows: RowSet) -> Chart:
    """Accuracy against the number of synthetic examples: a panel per loss, a line per set and real part.

    Runs on real data alone are the points at 0; they are in every panel of their dataset.
    """
    real: dict[str, list[ChartSeries]] = {}
    curves: dict[tuple[str, str], list[ChartSeries]] = {}
    for (dataset, source), runs in runs_by_panel(rows).items():
        for label, loss, members in runs_by_series(rows, runs, "source.n"):
            at: dict[float, list[float]] = {}
            for r, run in members:
                n = 0 if source == "small_real" else training_size(run, rows.rows[r.id])
                at.setdefault(n, []).append(test_accuracy(rows.rows[r.id]))
            points = tuple(Point.from_values(n, at[n]) for n in sorted(at))
            if source == "small_real":
                real.setdefault(dataset, []).append(ChartSeries(f"small_real, {label}", label, points))
            else:
                settings = ", ".join([source, *label.split(", ")[1:]])
                curves.setdefault((dataset, loss), []).append(ChartSeries(settings, settings, points))
    panels = [
        Panel(f"{dataset}, {loss}", "test accuracy (%)", (*real.get(dataset, ()), *series))
        for (dataset, loss), series in curves.items()
    ]
    notes = caption(rows, panels, "At the selected epoch")
    return Chart("lines", "synthetic examples", tuple(panels), len({loss for _, loss in curves}), notes)


def training_size(run: "Run", row: Row) -> float:
    """How many examples a run trains on: `source.n`, or all."""
    if run.source.n is not None:
        return run.source.n
    trained = [split for name, split in row["data"].items() if name not in ("small_real", "test", "other")]
    return sum(split["n"] - split["dropped"] for split in trained or [row["data"]["small_real"]])


def read_weights(rows: RowSet, run_id: str) -> pa.Table:
    """Kind, epoch and weight of a run's training examples, at every epoch."""
    table = pq.read_table(rows.store.parquet(run_id), columns=["split", "kind", "epoch", "weight"])
    return table.filter(pc.field("split") == "train")


def corruption_weights(rows: RowSet) -> Chart:
    """Mean weight by kind of corruption; where weights change, at the first and at the last epoch."""
    panels = []
    for panel, runs in runs_by_panel(rows).items():
        series = []
        for label, loss, members in runs_by_series(rows, runs):
            first: list[dict[str, float]] = []
            last: list[dict[str, float]] = []
            for r, _ in members:
                table = read_weights(rows, r.id)
                for means, epoch in ((first, pc.min(table["epoch"])), (last, pc.max(table["epoch"]))):
                    means.append(mean_by_kind(table.filter(pc.field("epoch") == epoch)))
            shown = [("", last)] if first == last else [(", first epoch", first), (", last epoch", last)]
            for when, means in shown:
                values = [
                    (i, [m[kind] for m in means if kind in m]) for i, kind in enumerate(CORRUPTION_KINDS)
                ]
                points = tuple(Point.from_values(i, of_kind) for i, of_kind in values if of_kind)
                series.append(ChartSeries(label + when, loss + when, points))
        panels.append(Panel(panel_title(rows, panel), "mean weight", tuple(series)))
    notes = caption(rows, panels, "Mean weight of the examples of a kind")
    return Chart("bars", "kind of corruption", tuple(panels), len(panels), notes, CORRUPTION_KINDS)


def mean_by_kind(table: pa.Table) -> dict[str, float]:
    """The mean weight of each kind of example."""
    kinds, values = np.array(table["kind"].to_pylist()), table["weight"].to_numpy().astype(np.float64)
    return {str(kind): float(values[kinds == kind].mean()) for kind in np.unique(kinds)}


def weight_distribution(rows: RowSet) -> Chart:
    """The share of training examples by weight at the last epoch. Losses with equal weights are left out."""
    panels = []
    for panel, runs in runs_by_panel(rows).items():
        series = []
        for label, loss, members in runs_by_series(rows, runs):
            shares, zero = [], []
            for r, _ in members:
                table = read_weights(rows, r.id)
                last = table.filter(pc.field("epoch") == pc.max(table["epoch"]))
                values = last["weight"].to_numpy().astype(np.float64)
                if values.min() == values.max():
                    continue
                logs = np.clip(np.log10(values[values > 0]), EDGES[0], EDGES[-1])
                shares.append(100 * np.histogram(logs, EDGES)[0] / len(values))
                zero.append(100 * float((values == 0).mean()))
            if shares:
                middle = 10 ** ((EDGES[1:] + EDGES[:-1]) / 2)
                points = [
                    Point.from_values(float(x), [float(s[i]) for s in shares]) for i, x in enumerate(middle)
                ]
                zeros = f" ({fmean(sorted(zero)):.0f} % are 0)" if any(zero) else ""
                series.append(ChartSeries(label + zeros, loss, tuple(points)))
        panels.append(Panel(panel_title(rows, panel), "examples per bin (%)", tuple(series)))
    what = "Weights at the last epoch, eight bins per decade, the outermost hold what lies beyond"
    return Chart("steps", "weight", tuple(panels), len(panels), caption(rows, panels, what), x_log=True)


def cost(rows: RowSet) -> Chart:
    """Accuracy against seconds, the checkers' included; one point per loss."""
    seconds, panels = run_seconds(rows), []
    for panel, runs in runs_by_panel(rows).items():
        series = []
        for label, loss, members in runs_by_series(rows, runs):
            accuracies = [test_accuracy(rows.rows[r.id]) for r, _ in members]
            point = Point.from_values(0, accuracies, [seconds[r.id].total for r, _ in members])
            series.append(ChartSeries(label, loss, (point,)))
        panels.append(Panel(panel_title(rows, panel), "test accuracy (%)", tuple(series)))
    notes = caption(rows, panels, "At the selected epoch, against all that was trained and computed for it")
    return Chart("cloud", "seconds, checkers included", tuple(panels), len(panels), notes)


def gains(rows: RowSet) -> Chart:
    """Accuracy less that of CE on the same data, by seed, against the share of swapped labels.

    A panel per dataset and size of D_P', titled with the mean accuracy of its quality checkers on test.

    Raises:
        UserError: No run of CE has a row, or the gain could be over two of them.
    """
    panels: dict[tuple[str, int | None], list[tuple[RequestedRow, Run]]] = {}
    ce: dict[tuple[str, int | None, float, int], float] = {}
    for r, run in rows.trained:
        if r.id in rows.rows:
            panel = (rows.dataset(run), run.source.real_n)
            panels.setdefault(panel, []).append((r, run))
            if run.loss.name == "ce":
                key = (*panel, run.corruption.swapped, run.seed)
                if key in ce:
                    raise UserError(
                        "gains: two runs of CE on one dataset, share and seed: draw one source, variant and model at a time"
                    )
                ce[key] = test_accuracy(rows.rows[r.id])
    if not ce:
        raise UserError("gains: no run of loss=ce has a row: the gain over it is drawn")
    drawn = []
    for panel, runs in panels.items():
        checkers = {id_ for r, _ in runs if (id_ := rows.rows[r.id]["checkers"]["quality"])}
        quality = sorted(test_accuracy(rows.store.row(id_)) for id_ in checkers if rows.store.exists(id_))
        series = []
        for label, loss, members in runs_by_series(rows, runs, "corruption.swapped", "source.real_n"):
            at: dict[float, list[float]] = {}
            for r, run in members:
                base = ce.get((*panel, run.corruption.swapped, run.seed))
                if loss != "ce" and base is not None:
                    at.setdefault(run.corruption.swapped, []).append(test_accuracy(rows.rows[r.id]) - base)
            if at:
                points = tuple(Point.from_values(100 * x, at[x]) for x in sorted(at))
                series.append(ChartSeries(label, loss, points))
        size = "all of D_P′" if panel[1] is None else f"{panel[1]} of D_P′"
        checker = f"\nquality checker {fmean(quality):.0f} %" if quality else ""
        drawn.append(Panel(f"{panel[0]}, {size}{checker}", "accuracy − CE (points)", tuple(series)))
    across = len({size for _, size in panels})
    notes = caption(rows, drawn, "Accuracy on test at the selected epoch less that of CE with the same seed")
    return Chart("lines", "swapped labels of the LLM-written set (%)", tuple(drawn), across, notes)


def differences(rows: RowSet) -> Chart:
    """Accuracy less that of CE on the same data with its 95 % interval, by dataset and over all of them.

    The tests are those of the table of results: a panel per training data, a series per line.

    Raises:
        UserError: No line was tested against CE.
    """
    labeler, datasets = RowLabeler([run for _, run in rows.trained]), rows.datasets
    cells = group_lines(rows, labeler)
    verdicts = judge_lines(rows, cells)
    panels: dict[str, list[ChartSeries]] = {}
    for label, by_dataset in cells.items():
        source, loss, *rest = label
        points = []
        for x, dataset in enumerate(datasets):
            verdict = verdicts.get((dataset, "accuracy", label))
            if verdict and (d := verdict.to_ce):
                points.append(Point(x, 100 * d.mean, 100 * d.low, 100 * d.high, len(by_dataset[dataset])))
        over = pooled_cell(verdicts, datasets, label, "accuracy")
        if over.n:
            points.append(Point(len(datasets), over.mean, over.low, over.high, over.n))
        if points:
            title = ", ".join(["trained on " + source, *(text for text in rest if text != "–")])
            panels.setdefault(title, []).append(ChartSeries(loss, loss, tuple(points)))
    if not panels:
        raise UserError("differences: no line has five seeds beside five of CE on the same data")
    drawn = tuple(Panel(title, "accuracy − CE (points)", tuple(series)) for title, series in panels.items())
    several = any(p.x == len(datasets) for panel in drawn for s in panel.series for p in s.points)
    names = (*datasets, *["all"] * several)
    notes = [
        "Accuracy on test less that of CE with 95 % intervals over seeds and test examples, not corrected for their number."
    ]
    notes += ["all: random-effects meta-analysis over the datasets."] * several
    return Chart("differences", "dataset", drawn, len(drawn), (*notes, *incomplete(rows)), names)


def test_accuracy(row: Row) -> float:
    """Accuracy on test at the selected epoch, in %."""
    return 100 * selected_epoch(row)["test"]["accuracy"]


CHARTS: dict[str, Callable[[RowSet], Chart]] = {
    "dynamics": dynamics,
    "weights": corruption_weights,
    "distribution": weight_distribution,
    "checker_size": partial(
        accuracy_curve, x="checker.quality.share",
        x_label="share of the real data that trains the quality checker (%)",
        read=lambda run, _: 100 * run.checker.quality.share, log=False,
    ),
    "quantity": partial(
        accuracy_curve, x="source.n", x_label="training examples", read=training_size, log=True,
    ),
    "mixing": mixing,
    "cost": cost,
    "gains": gains,
    "differences": differences,
}  # fmt: skip
