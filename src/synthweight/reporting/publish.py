"""What is published from rows: README's tables, outputs/tables, outputs/figures. Written, or checked against the rows.

`outputs/published.yaml` lists names, each with the words that would follow `synthweight tables` or `synthweight figures`.
"""

import re
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ..config import compose
from ..errors import UserError
from ..sweeps import grid
from ..sweeps import plan as sweep
from . import charts as figures
from . import plotting
from . import render as formats
from .charts import Chart
from .render import Table
from .rows import Gathered, Wanted, gather
from .tables import noise_detection, timing
from .tables.results import results

MARKER = re.compile(r"<!-- tables (?P<command>[^>]+?) -->\n(?P<body>.*?)<!-- /tables -->", re.DOTALL)
TABLES: dict[str, Callable[[Gathered], Table]] = {
    "results": results,
    "timing": timing.times,
    "separation": noise_detection.separation,
}
MAKE = "synthweight tables --write"
DRAW = "synthweight figures"


@dataclass(frozen=True)
class Shown:
    """A sweep's plan, and of its file's `hydra.sweeper` the kind of its table, its figures, and the checkers that it shows."""

    planned: sweep.Planned
    kind: str
    figures: tuple[str, ...]
    checkers: tuple[str, ...]

    def wanted(self) -> list[Wanted]:
        """The runs of its table: the sweep's own, and the checkers that it shows as lines of their own."""
        jobs = [job.who for job in self.planned.rows]
        shown = [who.checkers[role] for role in self.checkers for who in jobs if role in who.checkers]
        return list({who.id: Wanted(who.id, who.settings_id, who.run) for who in [*shown, *jobs]}.values())


def plan(file: str, *overrides: str, to_train: bool = False) -> Shown:
    """A sweep's plan without an application; to_train: with the encoders that it needs. Raises UserError."""
    path = grid.find(file)
    with compose.offline(path.parent):
        composer = compose.Composer(path.stem)
        ours = [o for o in overrides if not o.lstrip("+~").startswith("hydra")]  # a launcher changes no plan
        said = composer.hydra([], with_hydra=True).hydra.sweeper
        planned = (sweep.ready if to_train else sweep.plan)(composer, grid.blocks_of(composer), ours)
    for name, known in [(said.table, list(TABLES)), *((figure, list(figures.KINDS)) for figure in said.figures)]:
        if name not in known:
            raise UserError(f"{path}: hydra.sweeper has no table or figure {name}; there are {', '.join(known)}")
    return Shown(planned, said.table, tuple(said.figures), tuple(said.checkers))


def rows(shown: Shown, file: str, overrides: list[str], partial: bool, mixed: bool) -> Gathered:
    return gather(shown.planned.store, shown.wanted(), " ".join([file, *overrides]), partial, mixed)


def table(file: str, overrides: list[str], partial: bool = False, mixed: bool = False) -> Table:
    """The table of a sweep. Raises UserError."""
    shown = plan(file, *overrides)
    return TABLES[shown.kind](rows(shown, file, overrides, partial, mixed))


def charts(
    file: str, overrides: list[str], name: str, partial: bool = False, mixed: bool = False
) -> tuple[Path, dict[str, Chart]]:
    """The folder of outputs, and the figures of a sweep by the name of their files: `name`, the later ones `name-KIND`.

    Raises:
        UserError: the sweep has no figure, or its rows are not there.
    """
    shown = plan(file, *overrides)
    if not shown.figures:
        raise UserError(f"{file}: its file names no figure (hydra.sweeper.figures); there are {', '.join(figures.KINDS)}")
    first, found = shown.figures[0], rows(shown, file, overrides, partial, mixed)
    drawn = {name if kind == first else f"{name}-{kind}": figures.KINDS[kind](found) for kind in shown.figures}
    return shown.planned.store.root, drawn


def markdown(command: str) -> str:
    """The table that a command line asks for; its options are `--partial` and `--mixed`."""
    file, overrides, options = words(command)
    return formats.markdown(table(file, overrides, **options))


def words(command: str) -> tuple[str, list[str], dict[str, bool]]:
    """A sweep, its overrides, its options."""
    file, *rest = shlex.split(command)
    given = [word for word in rest if word.startswith("--")]
    unknown = sorted(set(given) - {"--partial", "--mixed"})
    if unknown:
        raise UserError(f"{command}: what is published knows --partial and --mixed, not {unknown[0]}")
    return file, [w for w in rest if w not in given], {option[2:]: True for option in given}


def readme(path: Path, made: Callable[[str], str], write: bool) -> None:
    """Writes, or checks, what stands between `<!-- tables NAME overrides -->` and `<!-- /tables -->`.

    Raises:
        UserError: (checking) the text is not what the rows give; the marker is named.
    """
    text = path.read_text(encoding="utf-8")
    found = list(MARKER.finditer(text))
    out, position = [], 0
    for match in found:
        body = made(match["command"])
        if not write and body != match["body"]:
            raise UserError(f"{path.name}: the table of '{match['command']}' is not what the rows give: {MAKE}")
        out += [text[position : match.start("body")], body]
        position = match.end("body")
    if write:
        path.write_text("".join([*out, text[position:]]), encoding="utf-8")
    print(f"{path.name}: {len(found)} table(s) {'written' if write else 'equal the rows'}")


@dataclass(frozen=True)
class Published:
    """The list, and the folder with its `tables/` and `figures/`."""

    folder: Path
    tables: dict[str, str]
    figures: dict[str, str]

    @classmethod
    def read(cls, folder: Path) -> "Published":
        """Raises UserError where the list is not two maps from names to commands."""
        path = folder / "published.yaml"
        said: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
        parts = [said.get(key) or {} for key in ("tables", "figures")] if isinstance(said, dict) else []
        if len(parts) != 2 or set(said) - {"tables", "figures"} or not all(isinstance(part, dict) for part in parts):
            raise UserError(f"{path}: holds two maps, tables and figures, from a name to the words of a command")
        for name, command in [item for part in parts for item in part.items()]:
            if not re.fullmatch(r"[\w.-]+", str(name)) or not isinstance(command, str) or not command.split():
                raise UserError(f"{path}: {name}: a name (letters, digits, . _ -) and the words of a command")
        return cls(folder, *parts)

    def texts(self) -> Iterator[tuple[Path, str]]:
        """Every committed table: its file and what the rows give."""
        for name, command in self.tables.items():
            file, overrides, options = words(command)
            made = table(file, overrides, **options)
            for kind, render in formats.FORMATS.items():
                line = f"synthweight tables {command}" + f" --format {kind}" * (kind != "md")
                yield self.folder / "tables" / f"{name}.{formats.SUFFIXES[kind]}", render(made, line)

    def drawn(self) -> Iterator[tuple[str, str, Chart]]:
        """Every committed figure: the name of its files, its command, and what the rows give."""
        for name, command in self.figures.items():
            file, overrides, options = words(command)
            for stem, chart in charts(file, overrides, name, **options)[1].items():
                yield stem, f"synthweight figures {command}", chart

    def write_tables(self) -> None:
        (self.folder / "tables").mkdir(parents=True, exist_ok=True)
        for path, text in self.texts():
            path.write_text(text, encoding="utf-8")
            print(path)

    def check(self) -> None:
        """Raises UserError for the first file that is not what the rows give, is missing, or is nobody's."""
        known: dict[Path, str] = {}
        for path, text in self.texts():
            known[path] = MAKE
            if not path.is_file() or path.read_text(encoding="utf-8") != text:
                raise UserError(f"{path}: not what the rows give: {MAKE}")
        for stem, _, chart in self.drawn():
            for path in plotting.files(self.folder / "figures", stem):
                known[path] = DRAW
                if not plotting.holds(path, chart):
                    raise UserError(f"{path}: not drawn from what the rows give: {DRAW}")
        there = [p for part in ("tables", "figures") for p in sorted((self.folder / part).glob("*"))]
        strange = [path for path in there if path not in known]
        if strange:
            raise UserError(f"{strange[0]}: no line of {self.folder / 'published.yaml'} makes it: add one, or delete it")
        print(f"{self.folder.name}: {len(self.tables)} table(s) and {len(self.figures)} figure(s) are what the rows give")
