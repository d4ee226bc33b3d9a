"""The rows that a sweep's table or figure is made of: exactly the ids that it composes, or said how not."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from ..config.compose import flat
from ..config.llm_schema import Prompt
from ..config.schema import as_dict
from ..errors import UserError
from ..runs.identity import VERSION
from ..runs.store import Store
from .render import MIXED

if TYPE_CHECKING:
    from ..config.schema import Run

Row = dict[str, Any]


@dataclass(frozen=True)
class Wanted:
    """A run whose row is asked for."""

    id: str
    settings_id: str
    run: "Run | Prompt"


@dataclass(frozen=True)
class Gathered:
    """The rows of what is wanted, by its ids. `strange` says of a row that --mixed let in what it is not."""

    store: Store
    wanted: Sequence[Wanted]
    rows: dict[str, Row]
    strange: dict[str, str]
    mixed: bool = False

    @property
    def missing(self) -> int:
        return len(self.wanted) - len(self.rows)

    @property
    def trained(self) -> "list[tuple[Wanted, Run]]":
        """The runs that train."""
        return [(w, w.run) for w in self.wanted if not isinstance(w.run, Prompt)]

    @property
    def legend(self) -> list[str]:
        """What must be said of rows that --mixed let in."""
        if not self.strange:
            return []
        counted = ", ".join(f"{n} {what}" for what, n in sorted(Counter(self.strange.values()).items()))
        return [f"`{MIXED}`: with rows that are not of the very runs asked for (--mixed): {counted}."]


def gather(store: Store, wanted: Sequence[Wanted], name: str, partial: bool = False, mixed: bool = False) -> Gathered:
    """Reads the rows.

    Args:
        name: of the sweep, for the command that makes what is missing.
        partial: leave holes instead of refusing.
        mixed: where a run has no row, take the newest one of the same settings (another VERSION, other data), and let rows
            of different device kinds stand together; `strange` marks them.

    Raises:
        UserError: a run is missing (named), a row's file is damaged, or rows would be mixed that nobody asked to mix.
    """
    rows = {w.id: store.row(w.id) for w in wanted if store.exists(w.id)}
    lacking = [w for w in wanted if w.id not in rows]
    strange: dict[str, str] = {}
    if lacking and (mixed or not partial):
        others = newest(store)
        replaced = {w.id: others[w.settings_id] for w in lacking if w.settings_id in others}
        if mixed:
            rows |= replaced
            strange = {
                i: f"of VERSION {r['version']}" if r["version"] != VERSION else "of other data" for i, r in replaced.items()
            }
            lacking = [w for w in lacking if w.id not in rows]
        if lacking and not partial:
            hint = f"; {len(replaced)} of them have one of another VERSION or other data: --mixed takes it" * bool(
                replaced and not mixed
            )
            raise UserError(
                f"{len(lacking)} of {len(wanted)} runs have no row, first {lacking[0].id} ({brief(lacking[0].run)}): "
                f"run synthweight sweep {name}, or ask for --partial{hint}"
            )
    found = Gathered(store, wanted, {w.id: rows[w.id] for w in wanted if w.id in rows}, strange, mixed)
    if mixed:
        mark_devices(found)
    else:
        refuse_different(found.rows, "device kinds", device)
        refuse_different(found.rows, "versions", lambda row: str(row["version"]))
    return found


def newest(store: Store) -> dict[str, Row]:
    """Of all rows, by settings_id, the one that was finished last."""
    out: dict[str, Row] = {}
    for run_id in sorted(store.ids()):
        row = store.row(run_id)
        key = row.get("settings_id")
        if key and (key not in out or row["provenance"]["finished"] > out[key]["provenance"]["finished"]):
            out[key] = row
    return out


def device(row: Row) -> str:
    return row["provenance"]["device"]["kind"]


def on_machines(rows: dict[str, Row]) -> dict[str, Row]:
    """Less the rows of somebody's server: its device is none that trained rows could share."""
    return {run_id: row for run_id, row in rows.items() if row.get("kind") != "prompt"}


def refuse_different(rows: dict[str, Row], what: str, read: Callable[[Row], str]) -> None:
    """Rows of different device kinds or versions do not belong together. Raises UserError."""
    kinds: dict[str, str] = {}
    for run_id, row in on_machines(rows).items():
        kinds.setdefault(read(row), run_id)
    if len(kinds) > 1:
        named = ", ".join(f"{kind} ({run_id})" for kind, run_id in sorted(kinds.items()))
        raise UserError(f"rows of different {what} in one table: {named}; --mixed marks them")


def mark_devices(found: Gathered) -> None:
    """Marks the rows of every device kind but the most frequent one."""
    kinds = {run_id: device(row) for run_id, row in on_machines(found.rows).items()}
    counted = Counter(kinds.values())
    usual = max(sorted(counted), key=lambda kind: counted[kind], default="")
    for run_id, kind in kinds.items():
        if kind != usual:
            found.strange[run_id] = ", ".join([*filter(None, [found.strange.get(run_id)]), f"on {kind} (the others: {usual})"])


def selected(row: Row) -> Row:
    """The epoch that stands."""
    return row["epochs"][row["selected_epoch"] - 1]


def brief(run: "Run | Prompt") -> str:
    """What a missing run is called."""
    if isinstance(run, Prompt):
        return f"{run.dataset.name} prompt {run.generator.model} seed {run.seed}"
    return f"{run.dataset.name} {run.source.name} {run.loss.name} seed {run.seed}"


class Lines:
    """What tells the lines of a table apart: source, loss, and every other setting that neither of them explains.

    Seeds are what a line's spread is over, datasets are columns; paths and loggers change nothing.
    """

    FIRST = ("source.name", "loss.name", "model.name", "selection.split", "source.n")
    TITLES: ClassVar[dict[str, str]] = {"source.name": "trained on", "loss.name": "loss", "model.name": "model"}

    def __init__(self, runs: "Sequence[Run]") -> None:
        settings = [self.settings(run) for run in runs]
        keys = list(dict.fromkeys([*self.FIRST, *(key for each in settings for key in each)]))
        self.keys: list[str] = list(self.FIRST[:2])
        for key in keys:
            by_line: dict[tuple[str, ...], set[str]] = {}
            for each in settings:  # what the dataset alone explains (its labels, its hub) is in its column's title
                by_line.setdefault((each["dataset.name"], *self.label(each)), set()).add(self.text(each.get(key)))
            if any(len(found) > 1 for found in by_line.values()):
                self.keys.append(key)
        self.columns = [self.TITLES.get(key, key) for key in self.keys]

    @staticmethod
    def settings(run: "Run") -> dict[str, Any]:
        """Those that the run reads: of the checkers, those that its loss needs, with its own encoder unless another is set."""
        found = {k: v for k, v in flat(as_dict(run)) if k.split(".")[0] not in ("seed", "paths", "logger")}
        for role in ("quality", "diversity"):
            if role not in run.loss.needs:
                found = {k: v for k, v in found.items() if not k.startswith(f"checker.{role}.")}
            elif found[f"checker.{role}.model"] is None:
                found[f"checker.{role}.model"] = run.model.name
        return found

    @staticmethod
    def text(value: Any) -> str:
        return "–" if value is None else f"{value:g}" if isinstance(value, float) else str(value)

    def label(self, settings: dict[str, Any]) -> tuple[str, ...]:
        return tuple(self.text(settings.get(key)) for key in self.keys)

    def __call__(self, run: "Run") -> tuple[str, ...]:
        return self.label(self.settings(run))
