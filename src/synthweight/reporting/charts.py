"""Figures as numbers: what is drawn of a sweep's rows. Every interval is minimum to maximum over seeds."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import fmean
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..errors import UserError
from .rows import Gathered, Lines, Row, Wanted, selected
from .tables.results import METRICS
from .tables.timing import measured

if TYPE_CHECKING:
    from ..config.schema import Run

OF_CORRUPTION = ("original", "swapped", "duplicated", "unrelated")
EDGES = np.linspace(-4, 2, 49)  # of log10 w: eight bins a decade, the outermost hold what lies beyond
Panelled = dict[tuple[str, str], "list[tuple[Wanted, Run]]"]


@dataclass(frozen=True)
class Point:
    """Means over n seeds, with their minimum and maximum; of x too where x is measured."""

    x: float
    y: float
    low: float
    high: float
    n: int
    x_low: float | None = None
    x_high: float | None = None


@dataclass(frozen=True)
class Series:
    """One line of a panel. `loss` gives its colour, marker and dash, the same in every figure."""

    label: str
    loss: str
    points: tuple[Point, ...]


@dataclass(frozen=True)
class Panel:
    title: str
    y_label: str
    series: tuple[Series, ...]


@dataclass(frozen=True)
class Chart:
    """A figure: rows of panels, `across` panels a row. `style`: lines, steps, bars (categories `names`) or cloud."""

    style: str
    x_label: str
    panels: tuple[Panel, ...]
    across: int
    notes: tuple[str, ...]
    names: tuple[str, ...] = ()
    x_log: bool = False


def point(x: float, values: Sequence[float], xs: Sequence[float] | None = None) -> Point:
    """In whatever order the rows come, the same digits."""
    y = sorted(values)
    across = sorted(xs) if xs else None
    low, high = (across[0], across[-1]) if across else (None, None)
    return Point(fmean(across) if across else x, fmean(y), y[0], y[-1], len(y), low, high)


def panels(found: Gathered) -> Panelled:
    """The runs that have a row, by dataset and source. Raises UserError where none has."""
    out: Panelled = {}
    for w, run in found.trained:
        if w.id in found.rows:
            out.setdefault((run.dataset.name, run.source.name), []).append((w, run))
    if not out:
        raise UserError("nothing to draw: no trained run of this sweep has a row")
    return out


def title(found: Gathered, place: tuple[str, str]) -> str:
    """A panel's: its dataset, and its source where there are several."""
    sources = {run.source.name for _, run in found.trained}
    return place[0] if len(sources) < 2 else f"{place[0]}, {place[1]}"


def by_series(
    found: Gathered, here: "list[tuple[Wanted, Run]]", x: str | None
) -> "Iterator[tuple[str, str, list[tuple[Wanted, Run]]]]":
    """(label, loss, runs) of each series of a panel: all that tells lines apart but the source and `x`."""
    names = Lines([run for _, run in found.trained])
    out: dict[tuple[str, str], list[tuple[Wanted, Run]]] = {}
    for w, run in here:
        texts = zip(names.keys, names.columns, names(run), strict=True)
        rest = [f"{name} {text}" for key, name, text in texts if key not in ("source.name", "loss.name", x) and text != "–"]
        out.setdefault((", ".join([run.loss.name, *rest]), run.loss.name), []).append((w, run))
    yield from ((label, loss, runs) for (label, loss), runs in out.items())


def notes(found: Gathered, charted: Sequence[Panel], what: str) -> tuple[str, ...]:
    """The caption: what is shown, of how many seeds, and what is not there."""
    counts = sorted({p.n for panel in charted for s in panel.series for p in s.points})
    n = f"n = {counts[0]}" if len(counts) == 1 else f"n = {counts[0]} to {counts[-1]}" if counts else "n = 0"
    spread = f"mean over {n} seeds, minimum to maximum" if counts[-1:] > [1] else f"{n}: one seed, no spread"
    out = [f"{what}; {spread}."]
    if found.missing:
        out.append(f"INCOMPLETE: {found.missing} of {len(found.wanted)} runs have no row.")
    return tuple(out + [line.replace("`", "") for line in found.legend])


def dynamics(found: Gathered) -> Chart:
    """Accuracy and macro F1 on test after each epoch."""
    charted = []
    here = panels(found)
    for metric, name in METRICS.items():
        for place, runs in here.items():
            series = []
            for label, loss, members in by_series(found, runs, None):
                curves = [[100 * e["test"][metric] for e in found.rows[w.id]["epochs"]] for w, _ in members]
                epochs = range(max(map(len, curves)))
                points = [point(i + 1, [curve[i] for curve in curves if i < len(curve)]) for i in epochs]
                series.append(Series(label, loss, tuple(points)))
            charted.append(Panel(title(found, place), f"test {name} (%)", tuple(series)))
    return Chart("lines", "epoch", tuple(charted), len(here), notes(found, charted, "Test after each epoch"))


def curve(found: Gathered, x: str, x_label: str, read: "Callable[[Run, Row], float]", log: bool) -> Chart:
    """Accuracy on test at the selected epoch against a setting."""
    charted = []
    for place, runs in panels(found).items():
        series = []
        for label, loss, members in by_series(found, runs, x):
            at: dict[float, list[float]] = {}
            for w, run in members:
                row = found.rows[w.id]
                at.setdefault(read(run, row), []).append(100 * selected(row)["test"]["accuracy"])
            series.append(Series(label, loss, tuple(point(v, at[v]) for v in sorted(at))))
        charted.append(Panel(title(found, place), "test accuracy (%)", tuple(series)))
    return Chart("lines", x_label, tuple(charted), len(charted), notes(found, charted, "At the selected epoch"), x_log=log)


def examples(run: "Run", row: Row) -> float:
    """How many examples `source.n` leaves."""
    if run.source.n is not None:
        return run.source.n
    trained = [split for name, split in row["data"].items() if name not in ("small_real", "test", "other")]
    return sum(split["n"] - split["dropped"] for split in trained or [row["data"]["small_real"]])


def train_lines(found: Gathered, wanted: Wanted) -> pa.Table:
    """The weights of a run's training examples at every epoch."""
    return found.store.table(found.rows[wanted.id]["id"]).filter(pc.field("split") == "train")


def weights(found: Gathered) -> Chart:
    """Mean weight by kind of corruption; of a weight that moves, at the first and at the last epoch."""
    charted = []
    for place, runs in panels(found).items():
        series = []
        for label, loss, members in by_series(found, runs, None):
            first: list[dict[str, float]] = []
            last: list[dict[str, float]] = []
            for w, _ in members:
                lines = train_lines(found, w)
                for means, epoch in ((first, pc.min(lines["epoch"])), (last, pc.max(lines["epoch"]))):
                    means.append(by_kind(lines.filter(pc.field("epoch") == epoch)))
            shown = [("", last)] if first == last else [(", first epoch", first), (", last epoch", last)]
            for when, means in shown:
                points = [(i, [m[kind] for m in means if kind in m]) for i, kind in enumerate(OF_CORRUPTION)]
                series.append(Series(label + when, loss + when, tuple(point(i, values) for i, values in points if values)))
        charted.append(Panel(title(found, place), "mean weight", tuple(series)))
    what = "Mean weight of the examples of a kind"
    return Chart("bars", "kind of corruption", tuple(charted), len(charted), notes(found, charted, what), OF_CORRUPTION)


def by_kind(lines: pa.Table) -> dict[str, float]:
    kinds, values = np.array(lines["kind"].to_pylist()), lines["weight"].to_numpy().astype(np.float64)
    return {str(kind): float(values[kinds == kind].mean()) for kind in np.unique(kinds)}


def distribution(found: Gathered) -> Chart:
    """The share of training examples by weight at the last epoch; losses whose weights are all equal are left out."""
    charted = []
    for place, runs in panels(found).items():
        series = []
        for label, loss, members in by_series(found, runs, None):
            shares, zero = [], []
            for w, _ in members:
                lines = train_lines(found, w)
                values = lines.filter(pc.field("epoch") == pc.max(lines["epoch"]))["weight"].to_numpy().astype(np.float64)
                if values.min() == values.max():
                    continue
                logs = np.clip(np.log10(values[values > 0]), EDGES[0], EDGES[-1])
                shares.append(100 * np.histogram(logs, EDGES)[0] / len(values))
                zero.append(100 * float((values == 0).mean()))
            if shares:
                middle = 10 ** ((EDGES[1:] + EDGES[:-1]) / 2)
                points = tuple(point(float(x), [float(s[i]) for s in shares]) for i, x in enumerate(middle))
                none = f" ({fmean(sorted(zero)):.0f} % are 0)" if any(zero) else ""
                series.append(Series(label + none, loss, points))
        charted.append(Panel(title(found, place), "examples per bin (%)", tuple(series)))
    said = notes(found, charted, "Weights at the last epoch, eight bins a decade, the outermost hold what lies beyond")
    return Chart("steps", "weight", tuple(charted), len(charted), said, x_log=True)


def cost(found: Gathered) -> Chart:
    """Accuracy against seconds, the checkers built for it included; one point a loss."""
    seconds, charted = measured(found), []
    for place, runs in panels(found).items():
        series = []
        for label, loss, members in by_series(found, runs, None):
            accuracies = [100 * selected(found.rows[w.id])["test"]["accuracy"] for w, _ in members]
            series.append(Series(label, loss, (point(0, accuracies, [seconds[w.id].total for w, _ in members]),)))
        charted.append(Panel(title(found, place), "test accuracy (%)", tuple(series)))
    what = "At the selected epoch, against all that was trained and computed for it"
    return Chart("cloud", "seconds, checkers included", tuple(charted), len(charted), notes(found, charted, what))


KINDS: dict[str, Callable[[Gathered], Chart]] = {
    "dynamics": dynamics,
    "weights": weights,
    "distribution": distribution,
    "checker_size": partial(
        curve, x="checker.quality.share", x_label="share of the real data that trains the quality checker (%)",
        read=lambda run, _: 100 * run.checker.quality.share, log=False,
    ),
    "quantity": partial(curve, x="source.n", x_label="training examples", read=examples, log=True),
    "cost": cost,
}  # fmt: skip
