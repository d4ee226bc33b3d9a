"""Charts as SVG within a page: its colours follow the reader's light or dark, its texts are the page's own.

`plotting.py` draws the same charts as files of fixed colours, for papers and documents.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from markupsafe import Markup, escape

from .charts import Chart, ChartSeries, Panel, Point

WIDTH, HEIGHT = 340, 230
LEFT, RIGHT, TOP, BOTTOM = 46, 8, 8, 38
# in the order of the page's colours
LOSSES = ("ce", "focal", "imp", "dimp", "quality_only", "hu", "sungen", "ren")
DASHES = ("", "6 2", "2 2", "8 2 2 2")
LINE_HEIGHT = 34  # of a line of dots, its name above them
Style = tuple[int, str]  # the number of the colour, the dashes


@dataclass(frozen=True)
class SvgChart:
    """A chart for a page.

    Attributes:
        legend: The list of its series.
        panels: (title, SVG) of each panel.
        notes: The caption's sentences.
    """

    legend: Markup
    panels: tuple[tuple[str, Markup], ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class SeedDots:
    """A line of a dot plot: a value per seed."""

    label: str
    loss: str
    values: dict[int, float]


def draw(chart: Chart) -> SvgChart:
    """A chart of any style as SVG."""
    styles = series_styles([(s.label, s.loss) for panel in chart.panels for s in panel.series])
    panels = tuple((panel.title, _panel(chart, panel, styles)) for panel in chart.panels)
    return SvgChart(_legend(styles), panels, chart.notes)


def series_styles(series: Sequence[tuple[str, str]]) -> dict[str, Style]:
    """The style of each series, given as (label, loss): its loss's own colour, or the next that no other has."""
    out: dict[str, Style] = {}
    spare = [(colour, dashes) for dashes in DASHES for colour in range(len(LOSSES))]
    for label, loss in dict(series).items():
        own = [(_loss_color(loss), "")] if loss in LOSSES else []
        out[label] = next((style for style in [*own, *spare] if style not in out.values()), spare[0])
    return out


def dot_plot(lines: Sequence[SeedDots], x_label: str) -> Markup:
    """A line per method: a dot per seed, and behind its name the mean and the sample standard deviation."""
    values = [value for line in lines for value in line.values.values()]
    scale = _Scale.around(min(values), max(values), 10, WIDTH - 12)
    height = LINE_HEIGHT * len(lines) + 34
    bottom = height - 34
    out = [_vertical(scale, x, 0, bottom) for x in scale.ticks]
    described = []
    for i, line in enumerate(lines):
        y, color = LINE_HEIGHT * i, f"var(--s{_loss_color(line.loss)})"
        seeds = list(line.values.values())
        text = f"{line.label}: {fmean(seeds):.1f}" + (f" ± {stdev(seeds):.1f}" if len(seeds) > 1 else "")
        described.append(text)
        out.append(f'<text class="name" x="2" y="{y + 12}">{escape(text)}</text>')
        out += [
            f'<circle class="seed" fill="{color}" cx="{scale(value):.1f}" cy="{y + 22}" r="4">'
            f"<title>seed {seed}: {value:.2f}</title></circle>"
            for seed, value in sorted(line.values.items())
        ]
        x = scale(fmean(seeds))
        out.append(f'<path d="M{x:.1f} {y + 15}v14" stroke="{color}" stroke-width="3"/>')
    out += _x_axis(scale, scale.ticks, bottom, x_label, height)
    return _svg(out, height, f"{x_label} by seed; means: {'; '.join(described)}")


@dataclass(frozen=True)
class _Scale:
    """From values to places on an axis.

    Attributes:
        low: The value at `start`.
        high: The value at `end`.
        start: A place in px.
        end: A place in px.
        log: Whether the axis is logarithmic.
    """

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    @classmethod
    def around(cls, low: float, high: float, start: float, end: float, zero: bool = False) -> "_Scale":
        """A linear scale with some room around the values, from zero where lengths are drawn."""
        room = 0.06 * (high - low) or 0.05 * abs(high) or 1.0
        return cls(0.0 if zero else low - room, high + room, start, end)

    def __call__(self, value: float) -> float:
        low, high, value = (math.log10(v) if self.log else v for v in (self.low, self.high, value))
        return self.start + (self.end - self.start) * (value - low) / ((high - low) or 1.0)

    @property
    def ticks(self) -> list[float]:
        """Round values, four or five of a linear scale, whole powers of ten of a logarithmic one."""
        if self.log:
            powers = range(math.ceil(math.log10(self.low)), math.floor(math.log10(self.high)) + 1)
            return [10.0**power for power in powers]
        rough = (self.high - self.low) / 4
        unit = 10.0 ** math.floor(math.log10(rough))
        step = next(unit * factor for factor in (1, 2, 5, 10) if unit * factor >= rough)
        return [step * i for i in range(math.ceil(self.low / step), math.floor(self.high / step) + 1)]


def _loss_color(loss: str) -> int:
    """The number of a loss's colour; grey for others."""
    return LOSSES.index(loss) if loss in LOSSES else len(LOSSES) - 1


def _panel(chart: Chart, panel: Panel, styles: dict[str, Style]) -> Markup:
    points = [p for series in panel.series for p in series.points]
    if not points:
        return Markup("")
    bottom = HEIGHT - BOTTOM
    lengths = chart.style in ("bars", "steps")
    y = _Scale.around(min(p.low for p in points), max(p.high for p in points), bottom, TOP, zero=lengths)
    xs = sorted({x for p in points for x in (p.x, p.x_low, p.x_high) if x is not None})
    if chart.names:
        x = _Scale(-0.5, len(chart.names) - 0.5, LEFT, WIDTH - RIGHT)
        ticks = [float(i) for i in range(len(chart.names))]
    elif chart.x_log:
        shown = [p.x for p in points if p.high > 0] if chart.style == "steps" else xs
        x = _Scale(min(shown) / 1.3, max(shown) * 1.3, LEFT, WIDTH - RIGHT, log=True)
        ticks = x.ticks if len(x.ticks) > 1 else xs
    else:
        x = _Scale.around(xs[0], xs[-1], LEFT, WIDTH - RIGHT)
        whole = chart.style == "lines" and len(xs) <= 8
        ticks = xs if whole else x.ticks
    out = [
        f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(t):.1f}" y2="{y(t):.1f}"/>'
        for t in y.ticks
    ]
    out += [f'<text x="{LEFT - 5}" y="{y(t) + 4:.1f}" text-anchor="end">{t:g}</text>' for t in y.ticks]
    middle = (TOP + bottom) / 2
    out.append(
        f'<text transform="translate(11 {middle:.0f}) rotate(-90)" text-anchor="middle">{escape(panel.y_label)}</text>'
    )
    for i, series in enumerate(panel.series):
        colour, dashes = styles[series.label]
        out += _series(chart, series, x, y, f"var(--s{colour})", dashes, i, len(panel.series))
    names = [chart.names[int(t)] if chart.names else f"{t:g}" for t in ticks]
    out += _x_axis(x, ticks, bottom, chart.x_label, HEIGHT, names)
    ends = "; ".join(f"{s.label} {s.points[-1].y:.4g}" for s in panel.series if s.points)
    what = f"{panel.title}: {panel.y_label} by {chart.x_label}; last values: {ends}"
    return _svg(out, HEIGHT, what)


def _series(
    chart: Chart, series: ChartSeries, x: _Scale, y: _Scale, color: str, dashes: str, i: int, count: int
) -> list[str]:
    points = [
        p for p in series.points if not (chart.x_log and chart.style == "steps") or x.low <= p.x <= x.high
    ]
    dash = f' stroke-dasharray="{dashes}"' if dashes else ""
    out: list[str] = []
    if chart.style in ("lines", "steps"):
        if any(p.n > 1 for p in points):
            there = " ".join(f"{x(p.x):.1f},{y(p.high):.1f}" for p in points)
            back = " ".join(f"{x(p.x):.1f},{y(p.low):.1f}" for p in reversed(points))
            out.append(f'<polygon class="band" fill="{color}" points="{there} {back}"/>')
        path = " ".join(f"{x(p.x):.1f},{y(p.y):.1f}" for p in points)
        out.append(f'<polyline class="curve" stroke="{color}"{dash} points="{path}"/>')
    shift = (i - (count - 1) / 2) * min(0.16, 0.8 / count) if chart.names else 0.0  # series beside each other
    for p in points:
        cx = x(p.x + shift)
        if chart.style in ("bars", "cloud", "differences"):
            out.append(
                f'<path d="M{cx:.1f} {y(p.low):.1f}V{y(p.high):.1f}" stroke="{color}" stroke-width="1.5"/>'
            )
            if p.x_low is not None and p.x_high is not None:
                across = f"M{x(p.x_low):.1f} {y(p.y):.1f}H{x(p.x_high):.1f}"
                out.append(f'<path d="{across}" stroke="{color}" stroke-width="1.5"/>')
        if chart.style != "steps":
            out.append(
                f'<circle fill="{color}" cx="{cx:.1f}" cy="{y(p.y):.1f}" r="3.2">'
                f"<title>{escape(_point_text(chart, series, p))}</title></circle>"
            )
    return out


def _point_text(chart: Chart, series: ChartSeries, p: Point) -> str:
    where = chart.names[int(p.x)] if chart.names else f"{chart.x_label} {p.x:.4g}"
    spread = f" ({p.low:.4g} to {p.high:.4g}, n = {p.n})" if p.n > 1 else ""
    return f"{series.label}, {where}: {p.y:.4g}{spread}"


def _x_axis(
    x: _Scale, ticks: Sequence[float], bottom: float, label: str, height: float, names: Sequence[str] = ()
) -> list[str]:
    out = [f'<line class="axis" x1="{x.start}" x2="{x.end}" y1="{bottom}" y2="{bottom}"/>']
    last = -math.inf
    for tick, name in zip(ticks, names or [f"{t:g}" for t in ticks], strict=True):
        place, half = x(tick), 3.4 * len(name)
        if place - half < last:  # its label would touch the one before
            continue
        last = place + half + 4
        place = min(place, WIDTH - half)
        out.append(f'<text x="{place:.1f}" y="{bottom + 15:.0f}" text-anchor="middle">{escape(name)}</text>')
    middle = (x.start + x.end) / 2
    out.append(f'<text x="{middle:.0f}" y="{height - 5:.0f}" text-anchor="middle">{escape(label)}</text>')
    return out


def _vertical(x: _Scale, value: float, top: float, bottom: float) -> str:
    return f'<line class="axis" x1="{x(value):.1f}" x2="{x(value):.1f}" y1="{top}" y2="{bottom}"/>'


def _svg(parts: Sequence[str], height: float, label: str) -> Markup:
    head = f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(label)}">'
    return Markup(head + "".join(parts) + "</svg>")


def _legend(styles: dict[str, Style]) -> Markup:
    items = []
    for label, (colour, dashes) in styles.items():
        dash = f' stroke-dasharray="{dashes}"' if dashes else ""
        line = f'<path class="curve" d="M0 5H28" stroke="var(--s{colour})"{dash}/>'
        dot = f'<circle cx="14" cy="5" r="3.2" fill="var(--s{colour})"/>'
        items.append(f'<li><svg viewBox="0 0 28 10" aria-hidden="true">{line}{dot}</svg>{escape(label)}</li>')
    return Markup(f'<ul class="legend">{"".join(items)}</ul>')
