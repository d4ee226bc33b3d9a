"""What is published from rows, written or checked: tables in documents, `outputs/tables`, `outputs/figures`.

`outputs/published.yaml` lists the documents, and the tables and figures by name, each with the words that
would follow `synthweight tables` or `synthweight figures`.
"""

import logging
import re
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from ..atomic_io import atomic_path
from ..config import compose, schema
from ..config.llm_schema import Prompt
from ..errors import UserError, first_line
from ..runs.store import Store
from ..sweeps.plan import SweepPlan, known_overrides, open_sweep, report_of
from .charts import CHARTS, Chart
from .claims import judge_claim, read_claims
from .claims import to_markdown as claims_to_markdown
from .plotting import figure_files, shows
from .render import FORMATS, PUBLISHED_SUFFIXES, Table, to_markdown
from .rows import METRICS, RequestedRow, RowSet, gather_rows
from .tables.noise_detection import noise_detection_table
from .tables.results import results_table
from .tables.timing import timing_table

logger = logging.getLogger(__name__)

MARKER = re.compile(
    r"<!-- (?P<kind>tables|claims)(?: (?P<command>[^>]+?))? -->\n(?P<body>.*?)<!-- /(?P=kind) -->", re.DOTALL
)
TABLES: dict[str, Callable[[RowSet], Table]] = {
    "results": results_table,
    "timing": timing_table,
    "noise_detection": noise_detection_table,
}
WRITE_TABLES = "synthweight tables --write"
WRITE_FIGURES = "synthweight figures"


@dataclass(frozen=True)
class SweepReport:
    """A sweep's plan, and how its file has its rows shown.

    Attributes:
        file: The sweep and its overrides, as on a command line.
        plan: The sweep's jobs.
        table: The kind of its table, a key of TABLES.
        figures: The kinds of its figures, keys of CHARTS.
        checkers: The roles whose checkers are lines of the table.
        joined: Sweeps whose finished rows are shown in the same table.
        metrics: The metrics of a table of results.
    """

    file: str
    plan: SweepPlan
    table: str
    figures: tuple[str, ...]
    checkers: tuple[str, ...]
    joined: tuple[SweepPlan, ...]
    metrics: tuple[str, ...]

    def rows(self, partial: bool = False) -> RowSet:
        """The rows of the sweep's runs and of the checkers it shows. Raises UserError if one is missing."""
        own = [job.identity for job in self.plan.rows]
        checkers = [
            identity.checkers[role] for role in self.checkers for identity in own if role in identity.checkers
        ]
        joined = [job.identity for plan in self.joined for job in plan.rows if plan.store.exists(job.id)]
        every = sorted([*checkers, *own, *joined], key=lambda each: not isinstance(each.run, Prompt))
        requested = {each.id: RequestedRow(each.id, each.run) for each in every}
        rows = gather_rows(self.plan.store, list(requested.values()), self.file, partial)
        return replace(rows, metrics=self.metrics)


def sweep_report(file: str, *overrides: str) -> SweepReport:
    """Plans a sweep without a Hydra application.

    Args:
        file: A name in `sweeps/`, or the path of a YAML file.
        overrides: Hydra overrides; those of `hydra` itself are ignored, since a launcher changes no plan, and
            those of `report` change what is shown. Each other one goes to the sweep, and to the sweeps that it
            joins, where their configuration has its key.

    Raises:
        UserError: No such sweep, a bad setting, or an unknown kind of table or figure.
    """
    own = [line for line in overrides if line.lstrip("+~").startswith("report.")]
    shown = report_of(file, own)
    kinds = ([shown.table], list(TABLES)), (shown.figures, list(CHARTS)), (shown.metrics, list(METRICS))
    for names, known in kinds:
        for name in names:
            if name not in known:
                raise UserError(
                    f"{file}: report has no table, figure or metric {name}; there are {', '.join(known)}"
                )
    settings = [line for line in overrides if line not in own]
    checkers = ("quality",) if shown.checkers else ()
    joined = {name: known_overrides(name, settings) for name in shown.join}
    theirs = {line for lines in joined.values() for line in lines} - set(known_overrides(file, settings))
    plan = open_sweep(file, [line for line in settings if line not in theirs], pinned=True).plan
    plans = []
    for name, lines in joined.items():
        try:
            plans.append(open_sweep(name, lines, pinned=True).plan)
        except UserError as error:  # such as a dataset that has not what this sweep needs
            logger.info("%s is not shown beside it with these settings: %s", name, first_line(error))
    name, metrics = " ".join([file, *settings]), tuple(shown.metrics)
    return SweepReport(name, plan, shown.table, tuple(shown.figures), checkers, tuple(plans), metrics)


def open_store(overrides: list[str]) -> tuple[Store, schema.Paths]:
    """The folder of outputs, and all folders, that a run with these overrides would have. Raises UserError."""
    with compose.offline(schema.CONF):
        paths = compose.Composer("config").run(overrides).paths
    return Store(paths.outputs), paths


def make_table(file: str, overrides: list[str], partial: bool = False) -> Table:
    """The table of a sweep. Raises UserError where a row is missing, unless `partial`."""
    report = sweep_report(file, *overrides)
    return TABLES[report.table](report.rows(partial))


def make_charts(
    file: str, overrides: list[str], name: str, partial: bool = False
) -> tuple[Path, dict[str, Chart]]:
    """The folder of outputs, and a sweep's charts by file name: `name`, the second and later `name-KIND`.

    Raises:
        UserError: The sweep has no figure, or a row is missing.
    """
    report = sweep_report(file, *overrides)
    if not report.figures:
        raise UserError(f"{file}: its file names no figure (report.figures); there are {', '.join(CHARTS)}")
    first, rows = report.figures[0], report.rows(partial)
    charts = {name if kind == first else f"{name}-{kind}": CHARTS[kind](rows) for kind in report.figures}
    return report.plan.store.root, charts


def split_command(command: str) -> tuple[str, list[str], bool]:
    """A command's sweep, overrides, and whether it has `--partial`. Raises UserError for other options."""
    file, *rest = shlex.split(command)
    options = [word for word in rest if word.startswith("--")]
    if unknown := sorted(set(options) - {"--partial"}):
        raise UserError(f"{command}: {unknown[0]} cannot be published; the only option is --partial")
    return file, [word for word in rest if word not in options], bool(options)


def update_document(path: Path, make: Callable[[str], Table], claims: Path, write: bool) -> None:
    """Writes, or checks, a document's tables: between `<!-- tables NAME … -->` and `<!-- /tables -->`, and
    between `<!-- claims -->` and `<!-- /claims -->`.

    Args:
        path: A Markdown file.
        make: The table of a command.
        claims: The list of claims.
        write: Write the tables instead of comparing them.

    Raises:
        UserError: The document does not exist or has no table; or a table is not what the rows give.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such document: mend the list in published.yaml")
    text = path.read_text(encoding="utf-8")
    matches = list(MARKER.finditer(text))
    if not matches:
        raise UserError(
            f"{path}: no <!-- tables NAME --> … <!-- /tables -->: add one, or take the document off the list in published.yaml"
        )
    out, position = [], 0
    for match in matches:
        body = to_markdown(make(match["command"])) if match["command"] else claims_text(claims)
        if not write and body != match["body"]:
            raise UserError(
                f"{path}: the table of '{match['command'] or match['kind']}' is not what the rows give: {WRITE_TABLES}"
            )
        out += [text[position : match.start("body")], body]
        position = match.end("body")
    if write:
        with atomic_path(path) as part:
            part.write_text("".join([*out, text[position:]]), encoding="utf-8")


def claims_text(path: Path) -> str:
    """The claims of a file, judged by the rows that there are. Raises UserError."""
    listed = read_claims(path)

    @cache
    def rows(sweep: str) -> RowSet:
        file, overrides, _ = split_command(sweep)
        return sweep_report(file, *overrides).rows(partial=True)

    return claims_to_markdown(listed, [judge_claim(claim, rows(claim.sweep)) for claim in listed])


@dataclass(frozen=True)
class Published:
    """The list of what is published.

    Attributes:
        folder: The folder of the list, with `tables/` and `figures/`.
        documents: Markdown files with marked tables, by their paths from the folder above.
        tables: Commands by the name of the table's files.
        figures: Commands by the name of the figure's files.
    """

    folder: Path
    documents: tuple[str, ...]
    tables: dict[str, str]
    figures: dict[str, str]

    @property
    def claims(self) -> Path:
        """The list of claims."""
        return self.folder / "claims.yaml"

    @classmethod
    def read(cls, folder: Path) -> "Published":
        """Reads the list. Raises UserError where it is malformed."""
        path = folder / "published.yaml"
        content: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
        keys = {"documents", "tables", "figures"}
        if not isinstance(content, dict) or set(content) - keys:
            raise UserError(f"{path}: has the keys documents, tables and figures")
        documents = content.get("documents") or []
        if not isinstance(documents, list) or not all(isinstance(d, str) for d in documents):
            raise UserError(f"{path}: documents is a list of paths")
        tables, figures = (content.get(key) or {} for key in ("tables", "figures"))
        if not isinstance(tables, dict) or not isinstance(figures, dict):
            raise UserError(f"{path}: tables and figures map a name to the words of a command")
        for name, command in [*tables.items(), *figures.items()]:
            if not re.fullmatch(r"[\w.-]+", str(name)) or not isinstance(command, str) or not command.split():
                raise UserError(f"{path}: {name}: a name (letters, digits, . _ -) and the words of a command")
        return cls(folder, tuple(documents), tables, figures)

    def table_files(self, make: Callable[[str], Table]) -> Iterator[tuple[Path, str]]:
        """Every published table: its files and what the rows give, by `make`."""
        for name, command in self.tables.items():
            table = make(command)
            for kind, suffix in PUBLISHED_SUFFIXES.items():
                line = f"synthweight tables {command}" + f" --format {kind}" * (kind != "md")
                yield self.folder / "tables" / f"{name}.{suffix}", FORMATS[kind](table, line)

    def charts(self) -> Iterator[tuple[str, str, Chart]]:
        """Every published figure: the name of its files, its command, and what the rows give."""
        for name, command in self.figures.items():
            file, overrides, partial = split_command(command)
            for stem, chart in make_charts(file, overrides, name, partial)[1].items():
                yield stem, f"synthweight figures {command}", chart

    def write_tables(self) -> list[Path]:
        """Writes the tables of the documents and those with files of their own; returns what was written."""
        make = _cached_tables()
        written = [self.folder.parent / name for name in self.documents]
        for path in written:
            update_document(path, make, self.claims, write=True)
        for path, text in self.table_files(make):
            with atomic_path(path) as part:
                part.write_text(text, encoding="utf-8")
            written.append(path)
        return written

    def check(self) -> None:
        """Raises UserError for the first file that differs from the rows, is missing or not on the list."""
        make = _cached_tables()
        for name in self.documents:
            update_document(self.folder.parent / name, make, self.claims, write=False)
        known: set[Path] = set()
        for path, text in self.table_files(make):
            known.add(path)
            if not path.is_file() or path.read_text(encoding="utf-8") != text:
                raise UserError(f"{path}: not what the rows give: {WRITE_TABLES}")
        for stem, _, chart in self.charts():
            for path in figure_files(self.folder / "figures", stem):
                known.add(path)
                if not shows(path, chart):
                    raise UserError(f"{path}: not drawn from what the rows give: {WRITE_FIGURES}")
        for path in sorted([*(self.folder / "tables").glob("*"), *(self.folder / "figures").glob("*")]):
            if path not in known:
                raise UserError(
                    f"{path}: not on the list {self.folder / 'published.yaml'}: add it, or delete the file"
                )

    def __str__(self) -> str:
        documents, tables, figures = map(len, (self.documents, self.tables, self.figures))
        return f"{documents} document(s), {tables} table(s) and {figures} figure(s)"


def _cached_tables() -> Callable[[str], Table]:
    """`make_table` of a command, once per command: a document and a file often show the same table."""
    return cache(lambda command: make_table(*split_command(command)))
