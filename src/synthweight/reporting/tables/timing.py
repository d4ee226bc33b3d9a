"""The table of times: seconds to build the checkers, to pre-compute weights and to train, by loss, as ratios to CE."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass

from ...errors import UserError
from ..render import MIXED, Cell, Column, Number, Quoted, Table
from ..rows import Gathered, Lines, Row, Wanted
from .results import PAPER, Label

PARTS = {"quality": "build QC", "diversity": "build DC", "weights": "weights", "train": "train", "total": "total"}
LEGEND = (
    "Seconds, mean ± sample standard deviation over n seeds. Building a checker is the `train` of its own row; weights are "
    "the scoring by the quality checker and what a loss learns before or beside its steps; reading data and the evaluation "
    "after every epoch, the same for all losses, are left out. Checkers' scores are kept: runs that share them are each "
    "charged what the first one took. The diversity checker is CE's own run, which scored its points when it ended: `total`"
    " builds it for IMP alone, `total, shared DC` takes the one that the CE baseline has trained anyway. × CE: the ratio to"
    " CE with the same seed. paper: its ratio of totals."
)


@dataclass(frozen=True)
class Seconds:
    """What one run took, its checkers included."""

    quality: float
    diversity: float
    weights: float
    train: float

    @property
    def total(self) -> float:
        return self.quality + self.diversity + self.weights + self.train

    @property
    def shared(self) -> float:
        """With a diversity checker that is there already."""
        return self.total - self.diversity


def measured(found: Gathered) -> dict[str, Seconds]:
    """The seconds of every trained run that has a row, by wanted id.

    Raises:
        UserError: the row of one of its checkers is not there, or the runs had different machines or threads.
    """
    rows = {w.id: found.rows[w.id] for w, _ in found.trained if w.id in found.rows}
    if len(machines(found)) > 1 and not found.mixed:
        raise UserError(f"seconds of different machines: {'; '.join(machines(found))}: run all on one, or ask for --mixed")
    scoring: dict[tuple[str, ...], float] = {}
    for w, run in found.trained:  # the first to need a checker's scores computes them, the others read them
        if w.id in rows:
            key = shared_scores(rows[w.id], str(run.seed))
            scoring[key] = max(scoring.get(key, 0.0), rows[w.id]["seconds"]["scores"])
    out = {}
    for w, run in found.trained:
        if w.id not in rows:
            continue
        row = rows[w.id]
        built = {role: checker(found, row, role) for role in ("quality", "diversity")}
        needs = any(row["checkers"].values())
        weights = row["seconds"]["weights"] + (scoring[shared_scores(row, str(run.seed))] if needs else 0.0)
        out[w.id] = Seconds(built["quality"], built["diversity"], weights, row["seconds"]["train"])
    return out


def shared_scores(row: Row, seed: str) -> tuple[str, ...]:
    """What a file of scores belongs to: the checker and the training data."""
    data = sorted(f"{name}:{split['sha256']}" for name, split in row["data"].items())
    source = row["config"]["source"]
    return (str(row["checkers"]["quality"]), seed, str(source["name"]), str(source["n"]), *data)


def checker(found: Gathered, row: Row, role: str) -> float:
    """Seconds of a checker's training; 0 where none is needed. Raises UserError where its row is missing."""
    run_id = row["checkers"][role]
    if run_id is None:
        return 0.0
    if not found.store.exists(run_id):
        raise UserError(f"{run_id}: no row, though it is the {role} checker of {row['id']}: restore it, or run that sweep again")
    return found.store.row(run_id)["seconds"]["train"]


def times(found: Gathered) -> Table:
    """A line per loss (and dataset, and whatever else differs): every part's seconds, totals, and their ratios to CE.

    Raises:
        UserError: see `measured`.
    """
    seconds = measured(found)
    names = Lines([run for _, run in found.trained])
    lines: dict[Label, list[Wanted]] = {}
    baseline: dict[tuple[Label, int], float] = {}
    for w, run in found.trained:
        label = (run.dataset.name, *names(run))
        lines.setdefault(label, []).append(w)
        if run.loss.name == "ce" and w.id in seconds:
            baseline[without_loss(label), run.seed] = seconds[w.id].total
    published = paper()
    cells: list[list[Cell]] = []
    for label, line in lines.items():
        there = [w for w in line if w.id in seconds]
        mine = [seconds[w.id] for w in there]
        ce = [baseline.get((without_loss(label), w.run.seed)) for w in there]
        sums = {key: [getattr(s, key) for s in mine] for key in (*PARTS, "shared")}
        ratios = {key: [own / c for own, c in zip(sums[key], ce, strict=True) if c] for key in ("total", "shared")}
        marks = MIXED * any(w.id in found.strange for w in there)
        counted: list[Cell] = [cell(sums[key], len(line), 1, marks) for key in PARTS]
        counted += [cell(ratios["total"], len(line), 2, marks), cell(sums["shared"], len(line), 1, marks)]
        counted += [cell(ratios["shared"], len(line), 2, marks), Quoted((published.get(label[2]),))]
        cells.append([*label, *counted])
    titles = [*PARTS.values(), "× CE", "total, shared DC", "× CE, shared DC"]
    columns = [Column("dataset"), *map(Column, names.columns), *map(Column.number, titles), Column("paper", ("paper × CE",))]
    return Table(columns, cells, [f"{LEGEND} Machine: {'; '.join(machines(found)) or '–'}.", *found.legend])


def without_loss(label: Label) -> Label:
    """Dataset, source and the rest: what a ratio's two sides share."""
    return label[:2] + label[3:]


def machines(found: Gathered) -> list[str]:
    """What the trained runs had: device and threads; and what was taken where a setting could not be."""
    out = set()
    for where in (found.rows[w.id]["provenance"] for w, _ in found.trained if w.id in found.rows):
        device = where["device"]
        other = [f"{key} {value}" for key, value in device.items() if key not in ("kind", "name", "stacked")]
        other += [f"{len(device['stacked'])} seeds at once"] if "stacked" in device else []
        out.add(", ".join([device["name"], f"{where['threads']} threads", *other]))
    return sorted(out)


def cell(values: Sequence[float], asked: int, digits: int, marks: str) -> Number:
    if values and not any(values):  # what this loss does not need has no spread
        return Number(0.0, None, len(values), digits, marks, missing=asked - len(values))
    return Number.of(values, asked, digits, marks)


def paper() -> dict[str, str]:
    """The paper's total by loss, divided by its CE's, two digits."""
    with PAPER.open(encoding="utf-8", newline="") as file:
        totals = {
            r["method"]: float(r["seconds"]) for r in csv.DictReader(file) if r["table"] == "timing" and r["note"] == "total"
        }
    return {loss: f"{total / totals['ce']:.2f}" for loss, total in totals.items()}
