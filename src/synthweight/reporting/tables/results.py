"""The table of results: accuracy and macro F1 by line and dataset, tested, beside the paper's."""

from collections.abc import Sequence
from statistics import fmean
from typing import TYPE_CHECKING

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ...config.llm_schema import Prompt
from ...errors import UserError
from ...runs.store import Store
from ..marks import Method, Verdict, judge
from ..paper import paper_key, paper_results
from ..render import Cell, Column, Interval, Number, ReferenceNumbers, Table
from ..rows import METRICS, Label, RequestedRow, Row, RowLabeler, RowSet, model_fact, selected_epoch
from ..significance import pooled

if TYPE_CHECKING:
    from ...config.schema import Run

MIN_SEEDS = 5  # with three, 7 of 100 equal pairs are called different, and few real differences are found
Lines = dict[Label, dict[str, list[RequestedRow]]]  # by line and dataset
Verdicts = dict[tuple[str, str, Label], Verdict]  # by dataset, metric and line
TESTED = (
    "**Bold**: the best of the lines on the same data; `≈`: not significantly different from it; `*`: significantly "
    "different from CE on the same data; `†`: from the best baseline there (by accuracy on D_P′, of those that do not "
    "learn from it). p < 0.05 after Holm's correction within a dataset, by the Dorfman–Berbaum–Metz analysis of "
    "variance with seeds and test examples as random effects, degrees of freedom by Hillis; lines with fewer than "
    f"{MIN_SEEDS} seeds are not tested."
)
UNTESTED = f"Differences are not tested with fewer than {MIN_SEEDS} seeds."
POOLED = (
    "all: mean difference to CE on the same data over the datasets, in points, [95 % interval] and p, by "
    "a random-effects meta-analysis (DerSimonian–Laird; modified Hartung–Knapp), not corrected for "
    "the number of lines."
)


def results_table(rows: RowSet) -> Table:
    """A line per source, loss and whatever else differs; columns per dataset, in % of the test set.

    Lines with five seeds or more are tested. Of several datasets, the pooled differences to CE are the last
    columns.

    Raises:
        UserError: A cell would average one seed twice, or rows evaluated on different test sets.
    """
    labeler = RowLabeler([run for _, run in rows.trained])
    datasets, metrics = rows.datasets, rows.metrics
    titles = [METRICS[m] for m in metrics]
    cells = group_lines(rows, labeler)
    verdicts = judge_lines(rows, cells)
    over_all = {
        (label, m): cell
        for label in cells
        for m in metrics
        if (cell := pooled_cell(verdicts, datasets, label, m)).n
    }
    names = {rows.dataset(r.run): r.run.dataset.name for r in rows.requested}
    published = {d: numbers for d in datasets if (numbers := paper_results(names[d], metrics))}

    columns = [Column(title) for title in labeler.columns]
    for dataset in datasets:
        heads = titles
        if len(datasets) > 1:
            heads = [dataset] if len(titles) == 1 else [f"{dataset} {title}" for title in titles]
        columns += [
            Column.number(head, f"{dataset} {title}") for head, title in zip(heads, titles, strict=True)
        ]
        if dataset in published:
            columns.append(Column("paper", tuple(f"{dataset} paper {title}" for title in titles)))
    if over_all:
        columns += [Column.interval(f"all: {title} − CE") for title in titles]
    lines: list[list[Cell]] = []
    for label, by_dataset in cells.items():
        line: list[Cell] = list(label)
        for dataset in datasets:
            requested = by_dataset.get(dataset, [])
            line += [metric_cell(rows, requested, m, verdicts.get((dataset, m, label))) for m in metrics]
            if dataset in published:
                none = ReferenceNumbers((None,) * len(metrics))
                line.append(published[dataset].get(paper_key(requested[0].run), none) if requested else none)
        if over_all:
            line += [over_all.get((label, m), Interval()) for m in metrics]
        lines.append(line)
    what = f"{titles[0]} " * (len(metrics) == 1)
    legend = [f"{spread_legend(lines)}, {what}in % of the test set. {TESTED if verdicts else UNTESTED}"]
    facts = [f"dataset {datasets[0]}"] if len(datasets) == 1 else []
    return Table(columns, lines, [*legend, POOLED] if over_all else legend, [*facts, *model_fact(rows)])


def group_lines(rows: RowSet, labeler: RowLabeler) -> Lines:
    """The requested rows by line and dataset: the seeds of a cell.

    Raises:
        UserError: A cell would average one seed twice, or rows evaluated on different test sets.
    """
    cells: Lines = {}
    for r in rows.requested:
        label = few_shot_label(r.run, labeler) if isinstance(r.run, Prompt) else labeler.label(r.run)
        cells.setdefault(label, {}).setdefault(rows.dataset(r.run), []).append(r)
    for label, by_dataset in cells.items():
        for requested in by_dataset.values():
            refuse_false_spread(label, requested, rows)
    return cells


def spread_legend(lines: Sequence[Sequence[Cell]]) -> str:
    """What the numbers of a table are: "Mean ± sample standard deviation over n = 5 seeds"."""
    counts = sorted({cell.n for line in lines for cell in line if isinstance(cell, Number) and cell.n})
    if not counts or counts == [1]:
        return "One seed, no spread"
    n = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    return f"Mean ± sample standard deviation over n = {n} seeds"


def few_shot_label(run: Prompt, labeler: RowLabeler) -> Label:
    """The label of the LLM itself: nothing is trained, so that the columns of training are empty."""
    part = f", {run.n} of test" if run.n is not None else ""
    texts = {"loss": f"{run.generator.model}, {run.shots} shots a label{part}"}
    return tuple(texts.get(column, "–") for column in labeler.columns)


def judge_lines(rows: RowSet, cells: Lines) -> Verdicts:
    """The verdicts on the lines of all datasets."""
    return {key: v for dataset in rows.datasets for key, v in judge_dataset(rows, cells, dataset).items()}


def judge_dataset(rows: RowSet, cells: Lines, dataset: str) -> Verdicts:
    """The verdicts on a dataset's trained lines with five seeds or more, for each test set by itself."""
    by_test: dict[str, dict[Label, list[tuple[Run, Row]]]] = {}
    for label, by_dataset in cells.items():
        requested = [(r.run, rows.rows[r.id]) for r in by_dataset.get(dataset, []) if r.id in rows.rows]
        line = [(run, row) for run, row in requested if not isinstance(run, Prompt)]
        if len(line) >= MIN_SEEDS:
            by_test.setdefault(line[0][1]["data"]["test"]["sha256"], {})[label] = line
    verdicts: Verdicts = {}
    for lines in by_test.values():
        if len(lines) < 2:
            continue
        classes: list[str] = next(iter(lines.values()))[0][1]["labels"]
        read = [read_method(rows.store, label, line, classes) for label, line in lines.items()]
        for metric in METRICS:
            judged = judge([method for _, method in read], read[0][0], len(classes), metric, MIN_SEEDS)
            verdicts |= {(dataset, metric, label): verdict for label, verdict in judged.items()}
    return verdicts


def read_method(
    store: Store, label: Label, line: "Sequence[tuple[Run, Row]]", classes: Sequence[str]
) -> tuple[np.ndarray, Method]:
    """The true classes of the test examples, and a line's predictions."""
    read = {run.seed: read_test(store, row["id"], classes) for run, row in line}
    selection = [selected_epoch(row)["selection"] for _, row in line]
    mean = None if None in selection else fmean(sorted(s["accuracy"] for s in selection))
    run = line[0][0]
    predictions = {seed: predicted for seed, (_, predicted) in read.items()}
    return read[run.seed][0], Method(
        label, comparison_block(run), run.loss.name, mean, predictions, run.loss.dev
    )


def comparison_block(run: "Run") -> tuple[str, ...]:
    """What lines that are compared share: the classifier, its training data and the selection of its epoch.

    Loss, weighting, checkers and recipe are what is compared.
    """
    settings = RowLabeler.settings(run)
    shared = ("source", "corruption", "model", "selection")
    return tuple(f"{key}={value}" for key, value in settings.items() if key.split(".")[0] in shared)


def read_test(store: Store, run_id: str, classes: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """The true and the predicted classes of a row's test examples, as positions in `classes`."""
    table = pq.read_table(store.parquet(run_id), columns=["split", "label", "prediction"])
    test = table.filter(pc.field("split") == "test")
    position = {name: i for i, name in enumerate(classes)}
    true, predicted = (
        np.array([position[name] for name in test[c].to_pylist()]) for c in ("label", "prediction")
    )
    return true, predicted


def pooled_cell(verdicts: Verdicts, datasets: Sequence[str], label: Label, metric: str) -> Interval:
    """A line's difference to CE over the datasets where both were tested; a hole with fewer than two."""
    tested = [v.to_ce for d in datasets if (v := verdicts.get((d, metric, label))) and v.to_ce]
    d = pooled(tested)
    return Interval(100 * d.mean, 100 * d.low, 100 * d.high, d.p, len(tested)) if d else Interval()


def metric_cell(
    rows: RowSet, requested: Sequence[RequestedRow], metric: str, verdict: "Verdict | None" = None
) -> Number:
    """Mean, sd and n in %; missing runs are counted."""
    values = [100 * selected_epoch(rows.rows[r.id])["test"][metric] for r in requested if r.id in rows.rows]
    marks, best = (verdict.marks, verdict.best) if verdict else ("", False)
    return Number.from_values(values, len(requested), 1, marks, best)


def refuse_false_spread(label: Label, requested: Sequence[RequestedRow], rows: RowSet) -> None:
    """Raises UserError where a cell has one seed twice, or rows evaluated on different test sets."""
    seeds = {r.run.seed for r in requested}
    tests = {rows.rows[r.id]["data"]["test"]["sha256"] for r in requested if r.id in rows.rows}
    if len(seeds) < len(requested) or len(tests) > 1:
        raise UserError(
            f"{' '.join(label)}: one seed twice, or two test sets, in one cell: no spread over seeds"
        )
