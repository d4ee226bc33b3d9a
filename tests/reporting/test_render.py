"""A table in three formats."""

import csv
import io

from synthweight.reporting import render
from synthweight.reporting.render import Column, Number, Quoted, Table

TABLE = Table(
    [Column("loss"), Column.number("a_b accuracy"), Column("paper", ("paper accuracy", "paper macro F1"))],
    [
        ["no_ce & 5 %", Number(51.04, 1.0, 3, marks="*†", best=True), Quoted(("77.39", None))],
        ["hole", Number(float("nan"), None, 0, missing=2), Quoted((None, None))],
        ["one", Number(1 / 3, None, 1, digits=2, missing=1), Quoted((None, None))],
    ],
    ["`*`: D_P' p < 0.05. **Bold**: best."],
)


def test_markdown():
    assert render.markdown(TABLE, "synthweight tables x").splitlines() == [
        "`synthweight tables x`",
        "",
        "| loss | a_b accuracy | paper |",
        "|---|---|---|",
        "| no_ce & 5 % | **51.0 ± 1.0***† (n = 3) | 77.39 / – |",
        "| hole | – [2 missing] | – |",
        "| one | 0.33 (n = 1) [1 missing] | – |",
        "",
        "`*`: D_P' p < 0.05. **Bold**: best.",
    ]


def test_latex_escapes_and_uses_booktabs():
    text = render.latex(TABLE, "synthweight tables x --format latex")
    assert text.splitlines()[:6] == [
        "% synthweight tables x --format latex", r"\begin{table}", r"\centering", r"\begin{tabular}{lrr}", r"\toprule",
        r"loss & a\_b accuracy & paper \\",
    ]  # fmt: skip
    assert r"no\_ce \& 5 \% & \textbf{51.0 $\pm$ 1.0}$^{*}$$^{\dagger}$ (n = 3) & 77.39 / -- \\" in text
    assert r"hole & -- [2 missing] & -- \\" in text
    assert r"\caption{$^{*}$: D\_P' p \textless{} 0.05. Bold: best.}" in text
    assert text.count(r"\\") == 4
    assert render.escaped("\\{}~^#$") == r"\textbackslash{}\{\}\textasciitilde{}\textasciicircum{}\#\$"


def test_csv_parses_into_plain_numbers():
    lines = list(csv.DictReader(io.StringIO(render.comma_separated(TABLE))))
    assert lines[0] == {
        "loss": "no_ce & 5 %", "a_b accuracy": "51.04", "a_b accuracy sd": "1", "a_b accuracy n": "3",
        "a_b accuracy marks": "*†", "a_b accuracy best": "1", "a_b accuracy missing": "0", "paper accuracy": "77.39",
        "paper macro F1": "",
    }  # fmt: skip
    assert (lines[1]["a_b accuracy"], lines[1]["a_b accuracy n"], lines[1]["a_b accuracy missing"]) == ("", "0", "2")
    assert (lines[2]["a_b accuracy"], lines[2]["a_b accuracy sd"]) == ("0.333333", "")
