"""The table of times: seconds to build the checkers, to compute weights and to train, and ratios to CE."""

from collections.abc import Sequence
from dataclasses import dataclass

from ...errors import UserError
from ..paper import paper_time_ratios
from ..render import Cell, Column, Number, ReferenceNumbers, Table
from ..rows import Label, RequestedRow, Row, RowLabeler, RowSet, model_fact
from .results import spread_legend

PARTS = {
    "quality": "build QC",
    "diversity": "build DC",
    "weights": "weights",
    "train": "train",
    "total": "total",
}
_LEGEND = (
    "Seconds. Building a checker is the `train` of its own row; weights: scoring by the quality checker, "
    "and what a loss learns before or beside its steps. Reading data and evaluation are left out: they "
    "are the same for all losses. Runs that share a checker's scores are each charged what the first "
    "took. The diversity checker is the CE run, which scores its own training examples at its end: "
    "`total` charges its training to IMP alone, `total, shared DC` assumes that the baseline is trained "
    "anyway. × CE: the ratio to CE with the same seed. paper: the paper's ratio of totals."
)


@dataclass(frozen=True)
class RunSeconds:
    """What one run took, its checkers included.

    Attributes:
        quality: Training of the quality checker.
        diversity: Training of the diversity checker.
        weights: Scores and learned weights.
        train: Its own training.
    """

    quality: float
    diversity: float
    weights: float
    train: float

    @property
    def total(self) -> float:
        """All of it."""
        return self.quality + self.diversity + self.weights + self.train

    @property
    def shared(self) -> float:
        """All of it but the diversity checker, which exists as CE's run."""
        return self.total - self.diversity


def run_seconds(rows: RowSet) -> dict[str, RunSeconds]:
    """The seconds of every trained run that has a row, by its id.

    Raises:
        UserError: A checker of the run has no row, or the runs had different machines or numbers of threads.
    """
    finished = [(rows.rows[r.id], run.seed) for r, run in rows.trained if r.id in rows.rows]
    if len(machines := machine_names(rows)) > 1:
        raise UserError(
            f"seconds from different machines in one table: {'; '.join(machines)}: run all on one "
            "(older rows say cpu, of any kind)"
        )
    scoring: dict[tuple[str, ...], float] = {}
    # the first run that needs a checker's scores computes them, the others read them
    for row, seed in finished:
        key = scores_key(row, seed)
        scoring[key] = max(scoring.get(key, 0.0), row["seconds"]["scores"])
    out = {}
    for row, seed in finished:
        quality, diversity = (checker_seconds(rows, row, role) for role in ("quality", "diversity"))
        scores = scoring[scores_key(row, seed)] if any(row["checkers"].values()) else 0.0
        out[row["id"]] = RunSeconds(
            quality, diversity, row["seconds"]["weights"] + scores, row["seconds"]["train"]
        )
    return out


def scores_key(row: Row, seed: int) -> tuple[str, ...]:
    """What a checker's scores are of: the checker and the training data."""
    data = sorted(f"{name}:{split['sha256']}" for name, split in row["data"].items())
    source = row["config"]["source"]
    return (str(row["checkers"]["quality"]), str(seed), str(source["name"]), str(source["n"]), *data)


def checker_seconds(rows: RowSet, row: Row, role: str) -> float:
    """Seconds of training a run's checkers of a role, those of folds too; 0 if it needs none.

    Raises UserError if a checker has no row.
    """
    ids = [run_id for key, run_id in row["checkers"].items() if run_id and key.split("/")[0] == role]
    for run_id in ids:
        if not rows.store.exists(run_id):
            raise UserError(
                f"{run_id}: no row, though it is the {role} checker of {row['id']}: run that sweep again"
            )
    return sum(rows.store.row(run_id)["seconds"]["train"] for run_id in ids)


def timing_table(rows: RowSet) -> Table:
    """A line per dataset, loss and what else differs: the seconds of every part, totals, and ratios to CE.

    Raises:
        UserError: See `run_seconds`.
    """
    seconds = run_seconds(rows)
    labeler = RowLabeler([run for _, run in rows.trained])
    lines: dict[Label, list[RequestedRow]] = {}
    baseline: dict[tuple[Label, int], float] = {}
    for r, run in rows.trained:
        label = (rows.dataset(run), *labeler.label(run))
        lines.setdefault(label, []).append(r)
        if run.loss.name == "ce" and r.id in seconds:
            baseline[without_loss(label), run.seed] = seconds[r.id].total
    published = paper_time_ratios()
    cells: list[list[Cell]] = []
    for label, requested in lines.items():
        finished = [r for r in requested if r.id in seconds]
        ce = [baseline.get((without_loss(label), r.run.seed)) for r in finished]
        sums = {part: [getattr(seconds[r.id], part) for r in finished] for part in (*PARTS, "shared")}
        ratios = {
            key: [own / c for own, c in zip(sums[key], ce, strict=True) if c] for key in ("total", "shared")
        }
        n = len(requested)
        cells.append([
            *label, *(seconds_cell(sums[part], n, 1) for part in PARTS), seconds_cell(ratios["total"], n, 2),
            seconds_cell(sums["shared"], n, 1), seconds_cell(ratios["shared"], n, 2),
            ReferenceNumbers((published.get(label[2]),)),
        ])  # fmt: skip
    titles = [*PARTS.values(), "× CE", "total, shared DC", "× CE, shared DC"]
    columns = [Column("dataset"), *map(Column, labeler.columns), *map(Column.number, titles)]
    machine = f"Machine: {'; '.join(machine_names(rows)) or '–'}."
    legend = [f"{spread_legend(cells)}. {_LEGEND} {machine}"]
    return Table([*columns, Column("paper", ("paper × CE",))], cells, legend, model_fact(rows))


def without_loss(label: Label) -> Label:
    """A label's dataset, source and other settings: what the two sides of a ratio share."""
    return label[:2] + label[3:]


def machine_names(rows: RowSet) -> list[str]:
    """What the trained runs were computed on: device, threads, and fallbacks for unsupported settings."""
    out = set()
    for provenance in (rows.rows[r.id]["provenance"] for r, _ in rows.trained if r.id in rows.rows):
        other = [f"{key} {value}" for key, value in provenance["fallbacks"].items()]
        other += [f"{len(provenance['stacked'])} seeds at once"] if provenance["stacked"] else []
        out.add(", ".join([provenance["device"]["name"], f"{provenance['threads']} threads", *other]))
    return sorted(out)


def seconds_cell(values: Sequence[float], requested: int, digits: int) -> Number:
    """Seconds or ratios of a line; no spread where the loss does not need this part at all."""
    if values and not any(values):
        return Number(0.0, None, len(values), digits, missing=requested - len(values))
    return Number.from_values(values, requested, digits)
