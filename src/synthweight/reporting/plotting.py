"""Charts as files: SVG and PNG by matplotlib, and the numbers as CSV. The same numbers give the same bytes.

Colours are those of Okabe and Ito (2008), which colour-blind readers tell apart; in grey, dashes and markers
do.
"""

import csv
import hashlib
import io
from collections.abc import Iterator
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Any

from ..atomic_io import atomic_path
from .charts import Chart, ChartSeries, Panel
from .render import six_digits

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BLACK, ORANGE, SKY, GREEN, BLUE, RED, PINK, GREY = (
    "#000000", "#E69F00", "#56B4E9", "#009E73", "#0072B2", "#D55E00", "#CC79A7", "#777777",
)  # fmt: skip
Style = tuple[str, Any, str]  # colour, dashes, marker
STYLES: dict[str, Style] = {
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
SPARE_STYLES: list[Style] = [
    (SKY, (0, (8, 2)), "<"),
    (PINK, (0, (2, 2)), ">"),
    (GREEN, (0, (4, 1, 1, 1)), "h"),
    (GREY, "-", "*"),
    (ORANGE, "-", "H"),
]
RC: Any = {
    "svg.hashsalt": "synthweight", "svg.fonttype": "path", "font.family": "DejaVu Sans", "font.size": 9,
    "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.color": "#dddddd",
    "grid.linewidth": 0.6, "axes.axisbelow": True, "lines.linewidth": 1.6, "lines.markersize": 4.5,
    "legend.frameon": False,
}  # fmt: skip
FIGURE_SUFFIXES = ("csv", "png", "svg")


def figure_files(folder: Path, stem: str) -> list[Path]:
    """The files of a figure."""
    return [folder / f"{stem}.{suffix}" for suffix in FIGURE_SUFFIXES]


def chart_csv(chart: Chart) -> str:
    """All that is drawn, as CSV: one record per point."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(
        ["panel", "measure", "series", chart.x_label, "low x", "high x", "mean", "low", "high", "n"]
    )
    for panel in chart.panels:
        for series in panel.series:
            for p in series.points:
                x = chart.names[int(p.x)] if chart.names else six_digits(p.x)
                measured = [six_digits(value) for value in (p.x_low, p.x_high, p.y, p.low, p.high)]
                writer.writerow([panel.title, panel.y_label, series.label, x, *measured, p.n])
    return file.getvalue()


def chart_digest(chart: Chart) -> str:
    """SHA-256 of a chart's numbers and texts; both pictures carry it."""
    texts = "\n".join([chart.style, chart.x_label, *chart.notes])
    return hashlib.sha256(f"{texts}\n{chart_csv(chart)}".encode()).hexdigest()


def shows(path: Path, chart: Chart) -> bool:
    """Whether a figure's file exists and was made from this chart."""
    if not path.is_file():
        return False
    if path.suffix == ".csv":
        return path.read_text(encoding="utf-8") == chart_csv(chart)
    return chart_digest(chart).encode() in path.read_bytes()


def write_figure(chart: Chart, folder: Path, stem: str, command: str) -> list[Path]:
    """Draws a chart as SVG and PNG, and writes its numbers beside them.

    Args:
        chart: The chart.
        folder: The folder of the figure's files; made where it does not exist.
        stem: The name of the files without suffix.
        command: The command that makes them, for their metadata.

    Returns:
        The files.
    """
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    table, png, svg = figure_files(folder, stem)
    with atomic_path(table) as part:
        part.write_text(chart_csv(chart), encoding="utf-8")
    description = f"{command}; numbers: sha256 {chart_digest(chart)}"
    with matplotlib.rc_context({**matplotlib.rcParamsDefault, **RC}):
        rows = -(-len(chart.panels) // max(1, chart.across))
        width = max(5.2, 3.4 * chart.across, 1.3 * len(chart.names))
        figure = Figure(figsize=(width, 2.5 * rows + 1.0), layout="constrained")
        FigureCanvasAgg(figure)
        share: Any = "col" if chart.style == "lines" else False
        axes = figure.subplots(rows, max(1, chart.across), squeeze=False, sharex=share)
        styles = dict(_styles(chart))
        for ax, panel in zip(axes.flat, chart.panels, strict=False):
            _draw_panel(ax, chart, panel, styles)
        for ax in axes[-1]:
            ax.set_xlabel(chart.x_label)
        handles: dict[str, Any] = {}
        for ax in axes.flat:
            handles |= dict(zip(*reversed(ax.get_legend_handles_labels()), strict=True))
        length = 1.6 if chart.style in ("bars", "cloud") else 3.2
        if handles:
            entry = 50 + 5.5 * max(map(len, handles))  # points: a handle, then 5.5 per letter
            columns = max(1, int(72 * width // entry))
            figure.legend(
                handles.values(), handles.keys(), loc="outside upper center", ncols=columns,
                handlelength=length,
            )  # fmt: skip
        # 17 letters per inch
        caption = [line for note in chart.notes for line in wrap(note, int(17 * width))]
        figure.supxlabel("\n".join(caption), fontsize=7, color="#444444")
        with atomic_path(svg) as part:
            facts = {"Date": None, "Creator": None, "Description": description}
            figure.savefig(part, format="svg", metadata=facts)
        with atomic_path(png) as part:
            figure.savefig(
                part, format="png", dpi=160, metadata={"Software": None, "Description": description}
            )
    return [table, png, svg]


def _styles(chart: Chart) -> Iterator[tuple[str, Style]]:
    """(label, style) of each series: its loss's own style, or the next that no other series has."""
    used: list[Style] = []
    losses = {series.label: series.loss for panel in chart.panels for series in panel.series}
    others = [*SPARE_STYLES, *STYLES.values()]
    for label, loss in losses.items():
        style = STYLES.get(loss)
        if style is None or style in used:
            style = next((other for other in others if other not in used), others[0])
        used.append(style)
        yield label, style


def _draw_panel(ax: "Axes", chart: Chart, panel: Panel, styles: dict[str, Style]) -> None:
    ax.set_title(panel.title, fontsize=9)
    ax.set_ylabel(panel.y_label)
    if chart.x_log:
        ax.set_xscale("log")
    for i, series in enumerate(panel.series):
        draw = {"lines": _draw_line, "steps": _draw_steps}.get(chart.style, _draw_crosses)
        draw(ax, series, styles[series.label], i, len(panel.series))
    if chart.style in ("bars", "steps"):  # lengths and shares begin at zero
        ax.set_ylim(0, 1.08 * max((p.high for series in panel.series for p in series.points), default=1.0))
    if chart.style == "differences":
        ax.axhline(0, color="#888888", linewidth=0.8, zorder=1)
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
        kept = _spaced(ticks, chart.x_log)
        ax.set_xticks(kept, labels=[f"{x:g}" for x in kept])
        ax.minorticks_off()


def _spaced(ticks: list[float], log: bool) -> list[float]:
    """The ticks without those whose labels would touch the next one's; the last one is always kept."""
    kept: list[float] = []
    for tick in reversed(ticks):
        if not kept or (kept[-1] / tick > 1.25 if log else (kept[-1] - tick) > (ticks[-1] - ticks[0]) / 20):
            kept.append(tick)
    return kept[::-1]


def _draw_line(ax: "Axes", series: ChartSeries, style: Style, i: int, count: int) -> None:
    """Means joined, the interval as a band."""
    colour, dashes, marker = style
    x, y = [p.x for p in series.points], [p.y for p in series.points]
    ax.plot(x, y, color=colour, linestyle=dashes, marker=marker, label=series.label, zorder=3)
    if any(p.n > 1 for p in series.points):
        ends = [p.low for p in series.points], [p.high for p in series.points]
        ax.fill_between(x, *ends, color=colour, alpha=0.13, linewidth=0)


def _draw_steps(ax: "Axes", series: ChartSeries, style: Style, i: int, count: int) -> None:
    """Means as a histogram's outline, the interval as a band; markers, no two series' on one step."""
    colour, dashes, marker = style
    x = [p.x for p in series.points]
    ax.plot(
        x, [p.y for p in series.points], color=colour, linestyle=dashes, marker=marker, drawstyle="steps-mid",
        markevery=[k for k in range(i, len(x), count) if series.points[k].y >= 0.5], label=series.label,
        zorder=3, linewidth=1.3,
    )  # fmt: skip
    if any(p.n > 1 for p in series.points):
        ends = [p.low for p in series.points], [p.high for p in series.points]
        ax.fill_between(x, *ends, color=colour, alpha=0.13, linewidth=0, step="mid")


def _draw_crosses(ax: "Axes", series: ChartSeries, style: Style, i: int, count: int) -> None:
    """Means as markers, intervals as bars; beside each other where x is a category."""
    colour, _, marker = style
    first = series.points[0] if series.points else None
    step = min(0.16, 0.8 / count)  # categories are 1 apart
    shift = 0.0 if first is None or first.x_low is not None else step * (i - (count - 1) / 2)
    for k, p in enumerate(series.points):
        across = None
        if p.x_low is not None and p.x_high is not None and p.n > 1:
            across = [[p.x - p.x_low], [p.x_high - p.x]]
        up = [[p.y - p.low], [p.high - p.y]] if p.n > 1 else None
        ax.errorbar(
            [p.x + shift], [p.y], yerr=up, xerr=across, color=colour, marker=marker, linestyle="none",
            capsize=3, markersize=6, elinewidth=1.2, label=series.label if k == 0 else None, zorder=3,
        )  # fmt: skip
