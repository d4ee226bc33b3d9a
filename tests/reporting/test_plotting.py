"""Figures carry their numbers, and the same numbers give the same bytes."""

import pytest

from support.rows import row_set
from synthweight.reporting.charts import CHARTS
from synthweight.reporting.plotting import figure_files, shows, write_figure


@pytest.mark.parametrize("kind", ["dynamics", "weights", "distribution", "cost"])
def test_rows_in_any_order_give_the_same_bytes(timed, kind, tmp_path):
    store, runs = timed
    first, second = (CHARTS[kind](row_set(store, r)) for r in (runs, [runs[i] for i in (3, 4, 5, 0, 1, 2)]))
    for name, chart in (("a", first), ("b", second)):
        write_figure(chart, tmp_path / name, "figure", "command")
    for file in figure_files(tmp_path / "a", "figure"):
        assert file.read_bytes() == (tmp_path / "b" / file.name).read_bytes()
        assert shows(file, second)


def test_a_figure_of_other_numbers_is_detected(timed, tmp_path):
    store, runs = timed
    files = write_figure(CHARTS["dynamics"](row_set(store, runs)), tmp_path, "figure", "command")
    fewer = CHARTS["dynamics"](row_set(store, runs[:3]))
    assert not any(shows(file, fewer) for file in files)
