"""The rows of a sweep's table or figure: exactly the runs that the sweep composes."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from ..config.llm_schema import Prompt
from ..config.overrides import flat
from ..errors import UserError
from ..runs.store import Store

if TYPE_CHECKING:
    from ..config.schema import Run

METRICS = {"accuracy": "accuracy", "macro_f1": "macro F1"}  # their titles
Row = dict[str, Any]
Place = tuple[str, str]  # a dataset's name and its folder, "" where none was given
Label = tuple[str, ...]  # a line's cells in the columns that tell lines apart


@dataclass(frozen=True)
class RequestedRow:
    """A run whose row is requested, by its id."""

    id: str
    run: "Run | Prompt"


@dataclass(frozen=True)
class RowSet:
    """The requested runs, and the rows of those that are finished.

    Attributes:
        store: The folder of outputs, for the rows of checkers and for Parquet files.
        requested: The runs, in the order of the sweep.
        rows: The rows by run id.
        metrics: What a table of results shows, keys of METRICS.
    """

    store: Store
    requested: Sequence[RequestedRow]
    rows: dict[str, Row]
    metrics: Sequence[str] = tuple(METRICS)

    @property
    def datasets(self) -> list[str]:
        """The names of the datasets, in the order of the sweep."""
        return list(dict.fromkeys(self.dataset(r.run) for r in self.requested))

    @property
    def missing(self) -> int:
        """How many requested runs have no row."""
        return len(self.requested) - len(self.rows)

    @property
    def trained(self) -> "list[tuple[RequestedRow, Run]]":
        """The requested runs that train; the others are few-shot classifications."""
        return [(r, r.run) for r in self.requested if not isinstance(r.run, Prompt)]

    @cached_property
    def _titles(self) -> dict[Place, str]:
        return dataset_titles([place_of(r.run) for r in self.requested])

    def dataset(self, run: "Run | Prompt") -> str:
        """The name of a run's dataset, with its folder where the table has another of that name."""
        return self._titles[place_of(run)]


def place_of(run: "Run | Prompt") -> Place:
    """A dataset's name and the folder of its files, if it was given: two folders are two datasets."""
    folder = run.dataset.path or (run.paths.data and f"{run.paths.data}/{run.dataset.name}")
    return run.dataset.name, os.path.abspath(folder) if folder else ""


def dataset_titles(places: Iterable[Place]) -> dict[Place, str]:
    """What each dataset is called: its name, or the end of its folder's path where several have the name.

    As much of the path is taken as tells the folders apart.
    """
    by_name: dict[str, list[str]] = {}
    for name, folder in dict.fromkeys(places):
        by_name.setdefault(name, []).append(folder)
    titles: dict[Place, str] = {}
    for name, folders in by_name.items():
        parts = [Path(folder).parts for folder in folders]
        ends = [name] * len(folders)
        for n in range(1, max(map(len, parts)) + 1):
            if len(set(ends)) == len(ends) and not set(ends) & (by_name.keys() - {name}):
                break
            ends = [str(Path(*each[-n:])) if each else name for each in parts]
        titles |= {(name, folder): end for folder, end in zip(folders, ends, strict=True)}
    return titles


def gather_rows(store: Store, requested: Sequence[RequestedRow], sweep: str, partial: bool = False) -> RowSet:
    """Reads the rows of the requested runs.

    Args:
        store: The folder of outputs.
        requested: The runs.
        sweep: The sweep and its overrides, for the command in the error message.
        partial: Leave missing rows out instead of refusing.

    Raises:
        UserError: A run has no row, a row's file is damaged, or the rows come from different kinds of device.
    """
    rows = {r.id: store.row(r.id) for r in requested if store.exists(r.id)}
    missing = [r for r in requested if r.id not in rows]
    if missing and not partial:
        raise UserError(
            f"{len(missing)} of {len(requested)} runs have no row, first {missing[0].id} "
            f"({summary(missing[0].run)}): run synthweight sweep {sweep}, or use --partial"
        )
    refuse_mixed_devices([rows[r.id] for r in requested if r.id in rows and not isinstance(r.run, Prompt)])
    return RowSet(store, requested, rows)


def refuse_mixed_devices(rows: Sequence[Row]) -> None:
    """Raises UserError where rows of trained runs come from different kinds of device, or precisions of it."""
    by_kind: dict[str, str] = {}
    for row in rows:
        made = row["provenance"]
        precision = made["fallbacks"].get("precision")
        kind = made["device"]["kind"] + (f" in {precision}-bit precision" if precision else "")
        by_kind.setdefault(kind, row["id"])
    if len(by_kind) > 1:
        kinds = ", ".join(f"{kind} ({run_id})" for kind, run_id in sorted(by_kind.items()))
        raise UserError(
            f"rows from different kinds of device in one table: {kinds}: delete the rows of one kind and run "
            "the sweep again on the other"
        )


def selected_epoch(row: Row) -> Row:
    """The metrics of a row at its selected epoch."""
    return row["epochs"][row["selected_epoch"] - 1]


def summary(run: "Run | Prompt") -> str:
    """A run in a few words, for messages."""
    if isinstance(run, Prompt):
        return f"{run.dataset.name} prompt {run.generator.model} seed {run.seed}"
    return f"{run.dataset.name} {run.source.name} {run.loss.name} seed {run.seed}"


def model_fact(rows: RowSet) -> list[str]:
    """The model for a table's caption, where all trained runs have the same one."""
    names = {run.model.name for _, run in rows.trained}
    return [f"model {names.pop()}"] if len(names) == 1 else []


class RowLabeler:
    """Labels a table's lines by what tells them apart: source, loss, and settings that those do not explain.

    Seeds are repetitions of a line and datasets are columns, so that neither is part of a label; paths and
    loggers change no result.

    Attributes:
        keys: The dotted keys of the settings that tell the lines apart.
        columns: Their titles.
    """

    FIRST = ("source.name", "loss.name", "model.name", "selection.split", "source.n")
    TITLES: ClassVar[dict[str, str]] = {
        "source.name": "trained on",
        "loss.name": "loss",
        "model.name": "model",
    }

    def __init__(self, runs: "Sequence[Run]") -> None:
        """Finds the keys for these runs."""
        settings = [self.settings(run) for run in runs]
        places = [place_of(run) for run in runs]
        keys = list(dict.fromkeys([*self.FIRST, *(key for each in settings for key in each)]))
        self.keys: list[str] = list(self.FIRST[:2])
        for key in keys:
            by_line: dict[Label, set[str]] = {}
            for place, each in zip(places, settings, strict=True):  # a dataset explains its labels and files
                by_line.setdefault((*place, *self._cells(each)), set()).add(self.text(each.get(key)))
            if any(len(found) > 1 for found in by_line.values()):
                self.keys.append(key)
        self.columns = [self.TITLES.get(key, key) for key in self.keys]

    @staticmethod
    def settings(run: "Run") -> dict[str, Any]:
        """The settings that a run reads, by dotted key.

        Of the checkers, those that its loss needs, with the run's own model unless another is set.
        """
        settings = {k: v for k, v in flat(asdict(run)) if k.split(".")[0] not in ("seed", "paths", "logger")}
        for role in ("quality", "diversity"):
            if role not in run.loss.needs:
                settings = {k: v for k, v in settings.items() if not k.startswith(f"checker.{role}.")}
            elif settings[f"checker.{role}.model"] is None:
                settings[f"checker.{role}.model"] = run.model.name
        return settings

    @staticmethod
    def text(value: Any) -> str:
        """A setting as a cell."""
        return "–" if value is None else f"{value:g}" if isinstance(value, float) else str(value)

    def label(self, run: "Run") -> Label:
        """The label of a run's line, one text per column."""
        return self._cells(self.settings(run))

    def _cells(self, settings: dict[str, Any]) -> Label:
        return tuple(self.text(settings.get(key)) for key in self.keys)
