"""Figures as files: SVG and PNG by matplotlib, and the numbers drawn as CSV. The same numbers give the same bytes.

Colours are those of Okabe and Ito (2008), which colour-blind readers tell apart; in grey, dashes and markers do.
"""

import csv
import hashlib
import io
from collections.abc import Iterator
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Any

from .charts import Chart, Panel, Series
from .render import plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BLACK, ORANGE, SKY, GREEN, BLUE, RED, PINK, GREY = (
    "#000000", "#E69F00", "#56B4E9", "#009E73", "#0072B2", "#D55E00", "#CC79A7", "#777777",
)  # fmt: skip
LOOKS: dict[str, tuple[str, Any, str]] = {  # colour, dashes, marker
    "ce": (BLACK, "-", "o"),
    "focal": (ORANGE, (0, (6, 2)), "s"),
    "imp": (BLUE, (0, (3, 1.5)), "^"),
    "dimp": (RED, "-", "D"),
    "quality_only": (GREEN, (0, (6, 2, 1, 2)), "v"),
    "hu": (SKY, (0, (1, 1.2)), "P"),
    "sungen": (PINK, (0, (3, 1, 1, 1)), "X"),
    "ren": (GREY, (0, (1, 2.5)), "p"),
    "dimp, first epoch": (ORANGE, (0, (1, 1.2)), "d"),
    "dimp, last epoch": (RED, "-", "D"),
}
SPARE = [(SKY, (0, (8, 2)), "<"), (PINK, (0, (2, 2)), ">"), (GREEN, (0, (4, 1, 1, 1)), "h"), (GREY, "-", "*"), (ORANGE, "-", "H")]
RC: Any = {
    "svg.hashsalt": "synthweight", "svg.fonttype": "path", "font.family": "DejaVu Sans", "font.size": 9,
    "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.color": "#dddddd", "grid.linewidth": 0.6,
    "axes.axisbelow": True, "lines.linewidth": 1.6, "lines.markersize": 4.5, "legend.frameon": False,
}  # fmt: skip
SUFFIXES = ("csv", "png", "svg")


def files(folder: Path, stem: str) -> list[Path]:
    """What a figure lies in."""
    return [folder / f"{stem}.{suffix}" for suffix in SUFFIXES]


def numbers(chart: Chart) -> str:
    """All that is drawn, as CSV: one line a point."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["panel", "measure", "series", chart.x_label, "low x", "high x", "mean", "low", "high", "n"])
    for panel in chart.panels:
        for series in panel.series:
            for p in series.points:
                x = chart.names[int(p.x)] if chart.names else plain(p.x)
                measured = [plain(value) for value in (p.x_low, p.x_high, p.y, p.low, p.high)]
                writer.writerow([panel.title, panel.y_label, series.label, x, *measured, p.n])
    return file.getvalue()


def digest(chart: Chart) -> str:
    """SHA-256 of the numbers and of the words around them: both pictures carry it."""
    words = "\n".join([chart.style, chart.x_label, *chart.notes])
    return hashlib.sha256(f"{words}\n{numbers(chart)}".encode()).hexdigest()


def holds(path: Path, chart: Chart) -> bool:
    """Whether a figure's file is there and shows these numbers."""
    if not path.is_file():
        return False
    if path.suffix == ".csv":
        return path.read_text(encoding="utf-8") == numbers(chart)
    return digest(chart).encode() in path.read_bytes()


def write(chart: Chart, folder: Path, stem: str, command: str) -> list[Path]:
    """Draws a chart as SVG and PNG, and writes its numbers beside. Returns the files."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    folder.mkdir(parents=True, exist_ok=True)
    table, png, svg = files(folder, stem)
    table.write_text(numbers(chart), encoding="utf-8")
    said = f"{command}; numbers: sha256 {digest(chart)}"
    with matplotlib.rc_context({**matplotlib.rcParamsDefault, **RC}):
        rows = -(-len(chart.panels) // max(1, chart.across))
        width = max(5.2, 3.4 * chart.across)
        figure = Figure(figsize=(width, 2.5 * rows + 1.0), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots(rows, max(1, chart.across), squeeze=False, sharex="col" if chart.style == "lines" else False)
        looks = dict(appearance(chart))
        for ax, panel in zip(axes.flat, chart.panels, strict=False):
            draw(ax, chart, panel, looks)
        for ax in axes[-1]:
            ax.set_xlabel(chart.x_label)
        handles: dict[str, Any] = {}
        for ax in axes.flat:
            handles |= dict(zip(*reversed(ax.get_legend_handles_labels()), strict=True))
        length = 1.6 if chart.style in ("bars", "cloud") else 3.2
        if handles:
            columns = max(1, int(72 * width // (50 + 5.5 * max(map(len, handles)))))  # points: a handle, then 5.5 a letter
            figure.legend(handles.values(), handles.keys(), loc="outside upper center", ncols=columns, handlelength=length)
        caption = [line for note in chart.notes for line in wrap(note, int(17 * width))]  # letters an inch
        figure.supxlabel("\n".join(caption), fontsize=7, color="#444444")
        figure.savefig(svg, metadata={"Date": None, "Creator": None, "Description": said})
        figure.savefig(png, dpi=160, metadata={"Software": None, "Description": said})
    return [table, png, svg]


def appearance(chart: Chart) -> Iterator[tuple[str, tuple[str, Any, str]]]:
    """Each series' colour, dashes and marker: its loss's own, or the next that no other series has."""
    taken: list[Any] = []
    labels = {series.label: series for panel in chart.panels for series in panel.series}
    free = [*SPARE, *LOOKS.values()]
    for label, series in labels.items():
        look = LOOKS.get(series.loss)
        if look is None or look in taken:
            look = next((spare for spare in free if spare not in taken), free[0])
        taken.append(look)
        yield label, look


def draw(ax: "Axes", chart: Chart, panel: Panel, looks: dict[str, tuple[str, Any, str]]) -> None:
    """One panel."""
    ax.set_title(panel.title, fontsize=9)
    ax.set_ylabel(panel.y_label)
    if chart.x_log:
        ax.set_xscale("log")
    for i, series in enumerate(panel.series):
        colour, dashes, marker = looks[series.label]
        {"lines": line, "steps": steps}.get(chart.style, crosses)(ax, series, colour, dashes, marker, i, len(panel.series))
    if chart.style in ("bars", "steps"):  # lengths and shares begin at zero
        ax.set_ylim(0, 1.08 * max((p.high for series in panel.series for p in series.points), default=1.0))
    if chart.names:
        ax.set_xticks(range(len(chart.names)), chart.names)
        ax.set_xlim(-0.5, len(chart.names) - 0.5)
        ax.grid(False, axis="x")
    elif chart.style == "steps":
        full = [p.x for series in panel.series for p in series.points if p.high > 0]
        if full:
            ax.set_xlim(min(full) / 1.5, max(full) * 1.5)
    elif chart.style == "lines":
        ticks = sorted({p.x for series in panel.series for p in series.points})
        ax.set_xticks(spaced(ticks, chart.x_log), labels=[f"{x:g}" for x in spaced(ticks, chart.x_log)])
        ax.minorticks_off()


def spaced(ticks: list[float], log: bool) -> list[float]:
    """Less those so near to the one before that their names would touch, the last one always kept."""
    kept: list[float] = []
    for tick in reversed(ticks):
        if not kept or (kept[-1] / tick > 1.25 if log else (kept[-1] - tick) > (ticks[-1] - ticks[0]) / 20):
            kept.append(tick)
    return kept[::-1]


def line(ax: "Axes", series: Series, colour: str, dashes: Any, marker: str, i: int, of: int) -> None:
    """Means joined, the interval as a band."""
    x = [p.x for p in series.points]
    ax.plot(x, [p.y for p in series.points], color=colour, linestyle=dashes, marker=marker, label=series.label, zorder=3)
    if any(p.n > 1 for p in series.points):
        ax.fill_between(x, [p.low for p in series.points], [p.high for p in series.points], color=colour, alpha=0.13, linewidth=0)


def steps(ax: "Axes", series: Series, colour: str, dashes: Any, marker: str, i: int, of: int) -> None:
    """Means as a histogram's outline, the interval as a band; markers, no two series' on one step."""
    x = [p.x for p in series.points]
    ax.plot(
        x, [p.y for p in series.points], color=colour, linestyle=dashes, marker=marker, drawstyle="steps-mid",
        markevery=[k for k in range(i, len(x), of) if series.points[k].y >= 0.5], label=series.label, zorder=3, linewidth=1.3,
    )  # fmt: skip
    if any(p.n > 1 for p in series.points):
        ends = [p.low for p in series.points], [p.high for p in series.points]
        ax.fill_between(x, *ends, color=colour, alpha=0.13, linewidth=0, step="mid")


def crosses(ax: "Axes", series: Series, colour: str, dashes: Any, marker: str, i: int, of: int) -> None:
    """Means as markers, intervals as bars; beside each other where x is a category."""
    first = series.points[0] if series.points else None
    shift = 0.0 if first is None or first.x_low is not None else 0.16 * (i - (of - 1) / 2)
    for k, p in enumerate(series.points):
        across = [[p.x - p.x_low], [p.x_high - p.x]] if p.x_low is not None and p.x_high is not None and p.n > 1 else None
        up = [[p.y - p.low], [p.high - p.y]] if p.n > 1 else None
        ax.errorbar(
            [p.x + shift], [p.y], yerr=up, xerr=across, color=colour, marker=marker, linestyle="none", capsize=3, markersize=6,
            elinewidth=1.2, label=series.label if k == 0 else None, zorder=3,
        )  # fmt: skip
