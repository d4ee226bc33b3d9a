"""A table as data, and as Markdown, LaTeX (booktabs) or CSV."""

import csv
import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import fmean, stdev

LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{",
    "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}",
    ">": r"\textgreater{}", "|": r"\textbar{}", "±": r"$\pm$", "–": "--", "×": r"$\times$", "−": "$-$",
    "≤": r"$\le$", "τ": r"$\tau$", "γ": r"$\gamma$", "*": r"$^{*}$", "†": r"$^{\dagger}$", "′": "$'$",
}  # fmt: skip


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

    @property
    def count(self) -> str:
        """How many values there are, and how many runs are missing."""
        return f" (n = {self.n})" * bool(self.n) + f" [{self.missing} missing]" * bool(self.missing)

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
    def number(title: str) -> "Column":
        """A column of Numbers."""
        return Column(
            title, (title, *(f"{title} {part}" for part in ("sd", "n", "marks", "best", "missing")))
        )

    @staticmethod
    def interval(title: str) -> "Column":
        """A column of Intervals."""
        return Column(title, (title, *(f"{title} {part}" for part in ("low", "high", "p", "datasets"))))


@dataclass(frozen=True)
class Table:
    """Lines of cells under columns, and the paragraphs of the legend (Markdown)."""

    columns: Sequence[Column]
    lines: Sequence[Sequence[Cell]]
    legend: Sequence[str] = field(default_factory=tuple)


def to_markdown(table: Table, command: str | None = None) -> str:
    """A Markdown table, below the command that makes it where one is given."""

    def text(cell: Cell) -> str:
        if not isinstance(cell, Number):
            return str(cell).replace("|", r"\|")
        return f"{f'**{cell}**' if cell.best else cell}{cell.marks}{cell.count}"

    def line(texts: Sequence[str]) -> str:
        return "| " + " | ".join(texts) + " |"

    out = [f"`{command}`", ""] if command else []
    out += [line([column.title for column in table.columns]), "|" + "---|" * len(table.columns)]
    out += [line([text(cell) for cell in cells]) for cells in table.lines]
    for paragraph in table.legend:
        out += ["", paragraph]
    return "\n".join(out) + "\n"


def escape_latex(text: str) -> str:
    """Text with LaTeX's special characters escaped."""
    return "".join(LATEX.get(letter, letter) for letter in text)


def to_latex(table: Table, command: str | None = None) -> str:
    r"""A `table` environment for `\usepackage{booktabs}`, the legend as its caption."""

    def text(cell: Cell) -> str:
        if not isinstance(cell, Number):
            return escape_latex(str(cell))
        number = escape_latex(str(cell))
        return (rf"\textbf{{{number}}}" if cell.best else number) + escape_latex(cell.marks + cell.count)

    caption = escape_latex(" ".join(table.legend).replace("**", "").replace("`", ""))
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

    The command has no place in a CSV.
    """
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow([part for column in table.columns for part in column.parts or (column.title,)])
    for cells in table.lines:
        writer.writerow([f for cell in cells for f in ([cell] if isinstance(cell, str) else cell.fields())])
    return file.getvalue()


def six_digits(value: float | None) -> str:
    """Six significant digits; nothing for None."""
    return "" if value is None else f"{value:.6g}"


FORMATS: dict[str, Callable[[Table, str | None], str]] = {"md": to_markdown, "latex": to_latex, "csv": to_csv}
SUFFIXES = {"md": "md", "latex": "tex", "csv": "csv"}
