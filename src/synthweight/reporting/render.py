"""A table as data, and as Markdown, LaTeX (booktabs) or CSV."""

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from .bootstrap import spread

MIXED = "‡"
LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}",
    "±": r"$\pm$", "–": "--", "×": r"$\times$", "−": "$-$", "≤": r"$\le$", "τ": r"$\tau$", "γ": r"$\gamma$",
    "*": r"$^{*}$", "†": r"$^{\dagger}$", MIXED: r"$^{\ddagger}$",
}  # fmt: skip


@dataclass(frozen=True)
class Number:
    """A cell: mean ± sample standard deviation (none for one value) of n values; `n` 0 is a hole.

    `marks` say what differs from what, `best` is shown bold, `missing` counts the runs that have no row.
    """

    mean: float
    sd: float | None
    n: int
    digits: int = 1
    marks: str = ""
    best: bool = False
    missing: int = 0

    @classmethod
    def of(cls, values: Sequence[float], asked: int, digits: int = 1, marks: str = "", best: bool = False) -> "Number":
        """Mean and sample standard deviation of the values there are, of so many runs asked for; a hole where there are none."""
        if not values:
            return cls(float("nan"), None, 0, digits, missing=asked)
        s = spread(values)
        return cls(s.mean, s.sd, s.n, digits, marks, best, missing=asked - s.n)

    def __str__(self) -> str:
        deviation = f" ± {self.sd:.{self.digits}f}" if self.sd is not None else ""
        return f"{self.mean:.{self.digits}f}{deviation}"

    @property
    def counted(self) -> str:
        """What stands behind the number: how many values, how many runs are missing."""
        return f" (n = {self.n})" * bool(self.n) + f" [{self.missing} missing]" * bool(self.missing)


@dataclass(frozen=True)
class Quoted:
    """A cell of numbers that somebody else published, as they wrote them; None where they have none."""

    values: tuple[str | None, ...]

    def __str__(self) -> str:
        return " / ".join(value or "–" for value in self.values) if any(self.values) else "–"


Cell = str | Number | Quoted


@dataclass(frozen=True)
class Column:
    """A column's title. `parts` name what a CSV puts into columns of their own: of a number, or of quoted numbers."""

    title: str
    parts: tuple[str, ...] = ()

    @staticmethod
    def number(title: str) -> "Column":
        return Column(title, (title, f"{title} sd", f"{title} n", f"{title} marks", f"{title} best", f"{title} missing"))


@dataclass(frozen=True)
class Table:
    """Lines of cells under columns, and what must be known to read them (Markdown)."""

    columns: Sequence[Column]
    lines: Sequence[Sequence[Cell]]
    legend: Sequence[str] = field(default_factory=tuple)


def markdown(table: Table, command: str | None = None) -> str:
    """A Markdown table; `command` stands above it where it is given."""

    def text(cell: Cell) -> str:
        if not isinstance(cell, Number):
            return str(cell).replace("|", r"\|")
        if not cell.n:
            return f"–{cell.counted}"
        return f"{f'**{cell}**' if cell.best else cell}{cell.marks}{cell.counted}"

    out = [f"`{command}`", ""] if command else []
    out += [line([column.title for column in table.columns]), "|" + "---|" * len(table.columns)]
    out += [line([text(cell) for cell in cells]) for cells in table.lines]
    for paragraph in table.legend:
        out += ["", paragraph]
    return "\n".join(out) + "\n"


def line(texts: Sequence[str]) -> str:
    return "| " + " | ".join(texts) + " |"


def escaped(text: str) -> str:
    """Text as LaTeX shows it."""
    return "".join(LATEX.get(letter, letter) for letter in text)


def latex(table: Table, command: str | None = None) -> str:
    r"""A `table` environment for `\usepackage{booktabs}`, the legend as its caption."""

    def text(cell: Cell) -> str:
        if not isinstance(cell, Number):
            return escaped(str(cell))
        if not cell.n:
            return escaped(f"–{cell.counted}")
        number = escaped(str(cell))
        return (rf"\textbf{{{number}}}" if cell.best else number) + escaped(cell.marks + cell.counted)

    caption = escaped(" ".join(table.legend).replace("**", "").replace("`", ""))
    kinds = "".join("r" if column.parts else "l" for column in table.columns)
    out = [f"% {command}"] if command else []
    out += [r"\begin{table}", r"\centering", rf"\begin{{tabular}}{{{kinds}}}", r"\toprule"]
    out += [" & ".join(escaped(column.title) for column in table.columns) + r" \\", r"\midrule"]
    out += [" & ".join(text(cell) for cell in cells) + r" \\" for cells in table.lines]
    out += [r"\bottomrule", r"\end{tabular}"] + ([rf"\caption{{{caption}}}"] if caption else []) + [r"\end{table}"]
    return "\n".join(out) + "\n"


def comma_separated(table: Table, command: str | None = None) -> str:
    """RFC 4180, one line a line: mean, sd, n, marks, best (0 or 1) and missing runs in columns of their own.

    Numbers have six significant digits; what is not there is empty. The command has no place in a CSV.
    """
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow([part for column in table.columns for part in column.parts or (column.title,)])
    for cells in table.lines:
        fields: list[str] = []
        for cell in cells:
            if isinstance(cell, Number):
                fields += [plain(cell.mean) if cell.n else "", plain(cell.sd), str(cell.n), cell.marks]
                fields += [str(int(cell.best)), str(cell.missing)]
            else:
                fields += [value or "" for value in cell.values] if isinstance(cell, Quoted) else [cell]
        writer.writerow(fields)
    return file.getvalue()


def plain(value: float | None) -> str:
    """Six significant digits; nothing for None."""
    return "" if value is None else f"{value:.6g}"


FORMATS: dict[str, Callable[[Table, str | None], str]] = {"md": markdown, "latex": latex, "csv": comma_separated}
SUFFIXES = {"md": "md", "latex": "tex", "csv": "csv"}
