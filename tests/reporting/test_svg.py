"""Charts as SVG: places, ticks, styles, and texts that cannot leave the picture."""

from xml.etree import ElementTree

import pytest

from synthweight.reporting.charts import Chart, ChartSeries, Panel, Point
from synthweight.reporting.svg import LOSSES, SeedDots, _Scale, dot_plot, draw, series_styles

POINTS = tuple(Point.from_values(x, [60.0 + x, 62.0 + x]) for x in (1, 2, 3))
NASTY = "</title><script>&"


@pytest.mark.parametrize("style", ["lines", "steps", "bars", "cloud"])
@pytest.mark.parametrize("log", [False, True])
def test_every_style_is_well_formed_and_described(style, log):
    names = ("a", "b", "c", "d") if style == "bars" else ()
    series = (ChartSeries("ce", "ce", POINTS), ChartSeries(NASTY, "dimp", POINTS[:2]))
    chart = Chart(style, "x", (Panel("p", "y (%)", series),), 1, ("note",), names, x_log=log and not names)
    drawn = draw(chart)
    root = ElementTree.fromstring(str(drawn.panels[0][1]))
    assert root.get("role") == "img"
    assert root.get("aria-label") == f"p: y (%) by x; last values: ce 64; {NASTY} 63"
    assert [e.text for e in root.iter("title")][:1] in (
        ["ce, x 1: 62 (61 to 63, n = 2)"],
        ["ce, b: 62 (61 to 63, n = 2)"],
        [],
    )
    ElementTree.fromstring(str(drawn.legend))
    places = [float(e.get("cy")) for e in root.iter("circle")]
    assert style == "steps" or places[0] > places[1] > places[2]  # larger values are higher up


def test_ticks_are_round_and_inside():
    assert _Scale(63.2, 70.9, 0, 100).ticks == [64, 66, 68, 70]
    assert _Scale(0.0, 1.03, 0, 100).ticks == [0, 0.5, 1]
    assert _Scale(3e-3, 40, 0, 100, log=True).ticks == [0.01, 0.1, 1, 10]
    scale = _Scale.around(5.0, 5.0, 10, 20)  # one value has room too
    assert scale(5.0) == 15


def test_a_loss_keeps_its_colour_and_no_two_series_look_alike():
    styles = series_styles(
        [("dimp", "dimp"), ("dimp, clip 2", "dimp"), *((f"n {i}", "ce") for i in range(20))]
    )
    assert styles["dimp"] == (LOSSES.index("dimp"), "")
    assert len(set(styles.values())) == 22


def test_a_dot_per_seed():
    root = ElementTree.fromstring(
        str(dot_plot([SeedDots("imp", "imp", {0: 60.0, 1: 62.0}), SeedDots("x", "", {3: 61.0})], "acc"))
    )
    assert [e.text for e in root.iter("title")] == ["seed 0: 60.00", "seed 1: 62.00", "seed 3: 61.00"]
    assert root.get("aria-label") == "acc by seed; means: imp: 61.0 ± 1.4; x: 61.0"
