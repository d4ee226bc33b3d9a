"""A table as data, and as text: for a terminal, in Markdown, LaTeX (booktabs), CSV or HTML."""

import csv
import html
import io
import math
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean, stdev

LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{",
    "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}",
    ">": r"\textgreater{}", "|": r"\textbar{}", "±": r"$\pm$", "–": "--", "×": r"$\times$", "−": "$-$",
    "≤": r"$\le$", "≥": r"$\ge$",
    "≈": r"$^{\approx}$", "τ": r"$\tau$", "γ": r"$\gamma$", "*": r"$^{*}$", "†": r"$^{\dagger}$", "′": "$'$",
}  # fmt: skip
PIPE_WIDTH = 200  # columns where standard output is no terminal


@dataclass(frozen=True)
class Number:
    """A cell: the mean of n values ± their sample standard deviation; a hole where there is no value.

    Attributes:
        mean: Their mean; NaN for a hole.
        sd: Their sample standard deviation (n − 1 in the denominator); None for a single value.
        n: Their number.
        digits: Decimals that are shown.
        marks: Signs behind the number, explained in the legend.
        best: Shown in bold.
        missing: How many runs have no row.
    """

    mean: float
    sd: float | None
    n: int
    digits: int = 1
    marks: str = ""
    best: bool = False
    missing: int = 0

    @classmethod
    def from_values(
        cls, values: Sequence[float], requested: int, digits: int = 1, marks: str = "", best: bool = False
    ) -> "Number":
        """The cell of the values that are there, of `requested` runs."""
        if not values:
            return cls(math.nan, None, 0, digits, missing=requested)
        ordered = sorted(values)  # the same digits in whatever order the rows come
        sd = stdev(ordered) if len(ordered) > 1 else None
        return cls(fmean(ordered), sd, len(ordered), digits, marks, best, missing=requested - len(ordered))

    def __str__(self) -> str:
        deviation = f" ± {self.sd:.{self.digits}f}" if self.sd is not None else ""
        return f"{self.mean:.{self.digits}f}{deviation}" if self.n else "–"

    def count(self, usual: int | None) -> str:
        """How many values there are, unless as many as `usual`, and how many runs are missing."""
        return f" (n = {self.n})" * (self.n not in (0, usual)) + f" [{self.missing} missing]" * bool(
            self.missing
        )

    def fields(self) -> list[str]:
        """The cell in a CSV."""
        mean = six_digits(self.mean) if self.n else ""
        return [mean, six_digits(self.sd), str(self.n), self.marks, str(int(self.best)), str(self.missing)]


@dataclass(frozen=True)
class Interval:
    """A cell: a mean difference, its 95 % interval and p; a hole where n, the number of datasets, is 0."""

    mean: float = math.nan
    low: float = math.nan
    high: float = math.nan
    p: float = math.nan
    n: int = 0

    def __str__(self) -> str:
        if not self.n:
            return "–"
        p = "p < 0.001" if self.p < 0.001 else f"p = {self.p:.3f}"
        return f"{self.mean:+.1f} [{self.low:+.1f}, {self.high:+.1f}], {p}".replace("-", "−")

    def fields(self) -> list[str]:
        """The cell in a CSV."""
        numbers = (
            [six_digits(value) for value in (self.mean, self.low, self.high, self.p)] if self.n else [""] * 4
        )
        return [*numbers, str(self.n)]


@dataclass(frozen=True)
class ReferenceNumbers:
    """A cell of numbers published by others, as they print them; None where they have none."""

    values: tuple[str | None, ...]

    def __str__(self) -> str:
        return " / ".join(value or "–" for value in self.values) if any(self.values) else "–"

    def fields(self) -> list[str]:
        """The cell in a CSV."""
        return [value or "" for value in self.values]


Cell = str | Number | Interval | ReferenceNumbers


@dataclass(frozen=True)
class Column:
    """A column's title. `parts` are the titles of its columns in a CSV, where a cell has several fields."""

    title: str
    parts: tuple[str, ...] = ()

    @staticmethod
    def number(title: str, name: str | None = None) -> "Column":
        """A column of Numbers; its columns in a CSV begin with `name`, or else with the title."""
        name = name or title
        return Column(title, (name, *(f"{name} {part}" for part in ("sd", "n", "marks", "best", "missing"))))

    @staticmethod
    def interval(title: str) -> "Column":
        """A column of Intervals."""
        return Column(title, (title, *(f"{title} {part}" for part in ("low", "high", "p", "datasets"))))


@dataclass(frozen=True)
class Table:
    """Lines of cells under columns.

    Attributes:
        columns: The columns.
        lines: A cell per column.
        legend: Paragraphs (Markdown) that explain the numbers and marks.
        facts: What holds for all lines, as "title value".
    """

    columns: Sequence[Column]
    lines: Sequence[Sequence[Cell]]
    legend: Sequence[str] = field(default_factory=tuple)
    facts: Sequence[str] = field(default_factory=tuple)

    @property
    def caption(self) -> str:
        """The sentence above the table; empty without facts."""
        return f"All lines: {', '.join(self.facts)}." if self.facts else ""

    @property
    def usual_n(self) -> int | None:
        """The number of values behind every cell; None where cells differ."""
        counts = {cell.n for line in self.lines for cell in line if isinstance(cell, Number) and cell.n}
        return counts.pop() if len(counts) == 1 else None

    def condensed(self) -> "Table":
        """The table for readers: a column with one value is a fact of the caption, one with holes alone is left out."""
        kept, facts = [], list(self.facts)
        for i, column in enumerate(self.columns):
            cells = [line[i] for line in self.lines]
            if len(cells) < 2 or not _one_value(cells):
                kept.append(i)
            elif str(cells[0]) != "–":
                facts.append(f"{column.title} {cells[0]}")
        lines = [[line[i] for i in kept] for line in self.lines]
        return replace(self, columns=[self.columns[i] for i in kept], lines=lines, facts=facts)


def _one_value(cells: Sequence[Cell]) -> bool:
    """Whether cells say the same; of measured numbers only zeros do, since others may be equal by chance."""
    if all(isinstance(cell, Number) for cell in cells):
        return all(
            cell.mean == 0 and cell.sd is None and not cell.missing
            for cell in cells
            if isinstance(cell, Number)
        )
    return len({str(cell) for cell in cells}) == 1 and (isinstance(cells[0], str) or str(cells[0]) == "–")


def to_markdown(table: Table, command: str | None = None) -> str:
    """A Markdown table, below the command that makes it where one is given."""
    table = table.condensed()

    def text(cell: Cell) -> str:
        if not isinstance(cell, Number):
            return str(cell).replace("|", r"\|")
        return f"{f'**{cell}**' if cell.best else cell}{cell.marks}{cell.count(table.usual_n)}"

    def line(texts: Sequence[str]) -> str:
        return "| " + " | ".join(texts) + " |"

    out = [f"`{command}`", ""] if command else []
    out += [table.caption, ""] if table.facts else []
    out += [line([column.title for column in table.columns])]
    out += ["|" + "".join("---:|" if column.parts else "---|" for column in table.columns)]
    out += [line([text(cell) for cell in cells]) for cells in table.lines]
    for paragraph in table.legend:
        out += ["", paragraph]
    return "\n".join(out) + "\n"


def escape_latex(text: str) -> str:
    """Text with LaTeX's special characters escaped."""
    return "".join(LATEX.get(letter, letter) for letter in text)


def to_latex(table: Table, command: str | None = None) -> str:
    r"""A `table` environment for `\usepackage{booktabs}`; its caption has the facts and the legend."""
    table = table.condensed()

    def text(cell: Cell) -> str:
        if not isinstance(cell, Number):
            return escape_latex(str(cell))
        number = escape_latex(str(cell))
        return (rf"\textbf{{{number}}}" if cell.best else number) + escape_latex(
            cell.marks + cell.count(table.usual_n)
        )

    paragraphs = [*([table.caption] if table.facts else []), *table.legend]
    caption = escape_latex(" ".join(paragraphs).replace("**", "").replace("`", ""))
    kinds = "".join("r" if column.parts else "l" for column in table.columns)
    out = [f"% {command}"] if command else []
    out += [r"\begin{table}", r"\centering", rf"\begin{{tabular}}{{{kinds}}}", r"\toprule"]
    out += [" & ".join(escape_latex(column.title) for column in table.columns) + r" \\", r"\midrule"]
    out += [" & ".join(text(cell) for cell in cells) + r" \\" for cells in table.lines]
    out += (
        [r"\bottomrule", r"\end{tabular}"]
        + ([rf"\caption{{{caption}}}"] if caption else [])
        + [r"\end{table}"]
    )
    return "\n".join(out) + "\n"


def to_csv(table: Table, command: str | None = None) -> str:
    """RFC 4180 with one record per line of the table; numbers with six significant digits, holes empty.

    All columns are there, also those with one value. The command has no place in a CSV.
    """
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow([part for column in table.columns for part in column.parts or (column.title,)])
    for cells in table.lines:
        writer.writerow([f for cell in cells for f in ([cell] if isinstance(cell, str) else cell.fields())])
    return file.getvalue()


def to_html(table: Table, command: str | None = None) -> str:
    """A `<table>`, its legend in paragraphs behind it; `data-value` has a cell's number, by which a page sorts."""
    table = table.condensed()

    def td(cell: Cell) -> str:
        if isinstance(cell, str):
            return f"<td>{html.escape(cell)}</td>"
        value = f' data-value="{cell.mean:.6g}"' if not isinstance(cell, ReferenceNumbers) and cell.n else ""
        text = html.escape(str(cell))
        if isinstance(cell, Number):
            count = cell.count(table.usual_n)
            text = (f"<strong>{text}</strong>" if cell.best else text) + html.escape(cell.marks + count)
        return f'<td class="n"{value}>{text}</td>'

    out = [f"<!-- {command.replace('--', '&#45;&#45;')} -->"] if command else []
    out += ['<table class="results">']
    out += [f"<caption><div>{html.escape(table.caption)}</div></caption>"] if table.facts else []
    heads = (
        '<th scope="col"' + ' class="n"' * bool(c.parts) + f">{html.escape(c.title)}</th>"
        for c in table.columns
    )
    out += [f"<thead><tr>{''.join(heads)}</tr></thead>", "<tbody>"]
    out += [f"<tr>{''.join(map(td, cells))}</tr>" for cells in table.lines]
    out += ["</tbody>", "</table>"]
    tags = {"bold": "strong", "code": "code"}
    for paragraph in table.legend:
        spans = ((tags.get(style), html.escape(text)) for style, text in _inline(paragraph))
        out.append(f"<p>{''.join(f'<{tag}>{text}</{tag}>' if tag else text for tag, text in spans)}</p>")
    return "\n".join(out) + "\n"


def to_rich(table: Table, command: str | None = None) -> str:
    """The table for the terminal on standard output: as wide as it, with its colours; plain text elsewhere."""
    from rich import box
    from rich.console import Console
    from rich.table import Table as RichTable
    from rich.text import Text

    table = table.condensed()
    console = Console(width=None if sys.stdout.isatty() else PIPE_WIDTH, highlight=False)
    drawn = RichTable(
        title=table.caption or None, title_justify="left", title_style="", box=box.SIMPLE_HEAD, pad_edge=False
    )
    for column in table.columns:
        drawn.add_column(Text(column.title), justify="right" if column.parts else "left", overflow="fold")
    for cells in table.lines:
        texts = []
        for cell in cells:
            text = Text(str(cell))
            if isinstance(cell, Number):
                text.stylize("bold green" if cell.best else "")
                text.append(cell.marks).append(cell.count(table.usual_n), "dim")
            texts.append(text)
        drawn.add_row(*texts)
    with console.capture() as captured:
        console.print(drawn)
        for paragraph in table.legend:
            spans = [(text, "bold" if style else "") for style, text in _inline(paragraph)]
            console.print(Text.assemble(*spans, style="dim"))
    return captured.get()


def _inline(paragraph: str) -> Iterator[tuple[str, str]]:
    """The parts of a legend's Markdown: (style, text), with style bold, code or none."""
    for match in re.finditer(r"\*\*(?P<bold>.+?)\*\*|`(?P<code>.+?)`|(?P<plain>(?:(?!\*\*|`).)+)", paragraph):
        style = str(match.lastgroup)
        yield ("" if style == "plain" else style), match[style]


def six_digits(value: float | None) -> str:
    """Six significant digits; nothing for None."""
    return "" if value is None else f"{value:.6g}"


FORMATS: dict[str, Callable[[Table, str | None], str]] = {
    "rich": to_rich, "md": to_markdown, "latex": to_latex, "csv": to_csv, "html": to_html,
}  # fmt: skip
PUBLISHED_SUFFIXES = {"md": "md", "latex": "tex", "csv": "csv"}
