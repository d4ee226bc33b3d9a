"""A table in its formats."""

import csv
import dataclasses
import io
import itertools
import math
import statistics

import pytest

from synthweight.reporting.render import (
    Column,
    Interval,
    Number,
    ReferenceNumbers,
    Table,
    escape_latex,
    to_csv,
    to_html,
    to_latex,
    to_markdown,
    to_rich,
)

TABLE = Table(
    [
        Column("loss"), Column.number("a_b accuracy"), Column("paper", ("paper accuracy", "paper macro F1")),
        Column.interval("all − CE"),
    ],
    [
        ["no_ce & 5 %", Number(51.04, 1.0, 3, marks="*†", best=True), ReferenceNumbers(("77.39", None)),
         Interval(1.25, -0.5, 3.0, 0.0125, 3)],
        ["hole", Number(math.nan, None, 0, missing=2), ReferenceNumbers((None, None)), Interval()],
        ["one", Number(1 / 3, None, 1, digits=2, missing=1), ReferenceNumbers((None, None)),
         Interval(2, 1, 3, 0.0001, 3)],
    ],
    ["`*`: D_P′ p < 0.05. **Bold**: best."],
)  # fmt: skip


def test_number_from_values():
    n = Number.from_values([1.0, 2.0, 4.0], requested=5)
    assert (n.mean, n.sd, n.n, n.missing) == (
        pytest.approx(7 / 3),
        pytest.approx(statistics.stdev([1, 2, 4])),
        3,
        2,
    )
    assert Number.from_values([5.0], 1).sd is None
    assert (Number.from_values([], 2).n, Number.from_values([], 2).missing) == (0, 2)
    values = [0.1, 0.7, 1e-9, 3.3]
    assert (
        len({(n.mean, n.sd) for n in (Number.from_values(p, 4) for p in itertools.permutations(values))}) == 1
    )


def test_markdown():
    assert to_markdown(TABLE, "synthweight tables x").splitlines() == [
        "`synthweight tables x`",
        "",
        "| loss | a_b accuracy | paper | all − CE |",
        "|---|---:|---:|---:|",
        "| no_ce & 5 % | **51.0 ± 1.0***† (n = 3) | 77.39 / – | +1.2 [−0.5, +3.0], p = 0.013 |",
        "| hole | – [2 missing] | – | – |",
        "| one | 0.33 (n = 1) [1 missing] | – | +2.0 [+1.0, +3.0], p < 0.001 |",
        "",
        "`*`: D_P′ p < 0.05. **Bold**: best.",
    ]


def test_latex_escapes_and_uses_booktabs():
    text = to_latex(TABLE, "synthweight tables x --format latex")
    assert text.splitlines()[:6] == [
        "% synthweight tables x --format latex", r"\begin{table}", r"\centering", r"\begin{tabular}{lrrr}",
        r"\toprule",
        r"loss & a\_b accuracy & paper & all $-$ CE \\",
    ]  # fmt: skip
    assert r"no\_ce \& 5 \% & \textbf{51.0 $\pm$ 1.0}$^{*}$$^{\dagger}$ (n = 3) & 77.39 / --" in text
    assert r" & +1.2 [$-$0.5, +3.0], p = 0.013 \\" in text
    assert r"hole & -- [2 missing] & -- & -- \\" in text
    assert r"p \textless{} 0.001 \\" in text
    assert r"\caption{$^{*}$: D\_P$'$ p \textless{} 0.05. Bold: best.}" in text
    assert text.count(r"\\") == 4
    assert escape_latex("\\{}~^#$") == r"\textbackslash{}\{\}\textasciitilde{}\textasciicircum{}\#\$"


def test_csv_parses_into_plain_numbers():
    lines = list(csv.DictReader(io.StringIO(to_csv(TABLE))))
    assert lines[0] == {
        "loss": "no_ce & 5 %", "a_b accuracy": "51.04", "a_b accuracy sd": "1", "a_b accuracy n": "3",
        "a_b accuracy marks": "*†", "a_b accuracy best": "1", "a_b accuracy missing": "0",
        "paper accuracy": "77.39", "paper macro F1": "", "all − CE": "1.25", "all − CE low": "-0.5",
        "all − CE high": "3", "all − CE p": "0.0125", "all − CE datasets": "3",
    }  # fmt: skip
    hole = lines[1]
    assert (
        hole["a_b accuracy"],
        hole["a_b accuracy n"],
        hole["a_b accuracy missing"],
        hole["all − CE p"],
    ) == ("", "0", "2", "")
    assert (lines[2]["a_b accuracy"], lines[2]["a_b accuracy sd"]) == ("0.333333", "")


SAME = Table(
    [
        Column("loss"),
        Column("source"),
        Column.number("accuracy"),
        Column.number("weights"),
        Column("paper", ("a", "b")),
    ],
    [
        [loss, "syn_<1>", Number(50.0, None, 1), Number(0.0, None, 3), ReferenceNumbers((None, None))]
        for loss in ("ce", "imp")
    ],
    ["**Bold**: `≈`."],
    ["dataset d"],
)


def test_what_all_lines_share_is_in_the_caption():
    """Equal results stay, since they are measured; a column of holes says nothing; a line alone stays whole."""
    assert to_markdown(SAME).splitlines()[:3] == [
        "All lines: dataset d, source syn_<1>, weights 0.0.", "", "| loss | accuracy |",
    ]  # fmt: skip
    assert (
        r"\caption{All lines: dataset d, source syn\_\textless{}1\textgreater{}, weights 0.0. Bold:"
        in to_latex(SAME)
    )
    assert to_csv(SAME).splitlines()[0].startswith("loss,source,accuracy,")
    alone = dataclasses.replace(SAME, lines=SAME.lines[:1])
    assert to_markdown(alone).splitlines()[2] == "| loss | source | accuracy | weights | paper |"


def test_n_is_in_a_cell_only_where_cells_differ():
    lines = [
        ["a", Number(1.0, 0.5, 5)],
        ["b", Number(2.0, 0.5, 5, missing=2)],
        ["c", Number(math.nan, None, 0, missing=7)],
    ]
    table = Table([Column("l"), Column.number("m")], lines)
    assert to_markdown(table).splitlines()[2:] == [
        "| a | 1.0 ± 0.5 |",
        "| b | 2.0 ± 0.5 [2 missing] |",
        "| c | – [7 missing] |",
    ]
    lines[0][1] = Number(1.0, 0.5, 4)
    assert to_markdown(table).splitlines()[2:4] == [
        "| a | 1.0 ± 0.5 (n = 4) |",
        "| b | 2.0 ± 0.5 (n = 5) [2 missing] |",
    ]


def test_html_escapes_and_carries_the_values():
    text = to_html(SAME, "synthweight tables x --format html")
    assert "<caption><div>All lines: dataset d, source syn_&lt;1&gt;, weights 0.0.</div></caption>" in text
    assert '<td class="n" data-value="50">50.0</td>' in text
    assert "<p><strong>Bold</strong>: <code>≈</code>.</p>" in text
    assert '<td class="n" data-value="51.04"><strong>51.0 ± 1.0</strong>*† (n = 3)</td>' in to_html(TABLE)
    assert '<td class="n">– [2 missing]</td>' in to_html(TABLE)


def test_a_terminal_shows_the_legend_without_its_marks_of_markdown():
    text = to_rich(TABLE)
    assert "51.0 ± 1.0*† (n = 3)" in text
    assert "*: D_P′ p < 0.05. Bold: best." in text
    assert "[2 missing]" in text  # rich would take brackets for a style
