"""The table of results: accuracy and macro F1 by line and dataset, tested, the paper's numbers beside."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow.compute as pc

from ...config.llm_schema import Prompt
from ...errors import UserError
from ...runs.store import Store
from .. import marks as compare
from ..marks import LEGEND, Method, Verdict
from ..render import MIXED, Cell, Column, Number, Quoted, Table
from ..rows import Gathered, Lines, Row, Wanted, selected

if TYPE_CHECKING:
    from ...config.schema import Run

PAPER = Path(__file__).parents[1] / "paper_numbers.csv"
METRICS = {"accuracy": "accuracy", "macro_f1": "macro F1"}
LARGER = "bert_large"  # the classifier of its Table 2
Label = tuple[str, ...]


def results(found: Gathered) -> Table:
    """A line per source and loss, and whatever else differs; columns per dataset; % of the test set.

    With two seeds or more, differences are tested and the legend says how. The paper's number stands beside ours.

    Raises:
        UserError: a cell would average one seed twice, or two test sets.
    """
    names = Lines([run for _, run in found.trained])
    datasets = list(dict.fromkeys(w.run.dataset.name for w in found.wanted))
    cells: dict[Label, dict[str, list[Wanted]]] = {}
    for w in found.wanted:
        label = few_shot(w.run, names) if isinstance(w.run, Prompt) else names(w.run)
        cells.setdefault(label, {}).setdefault(w.run.dataset.name, []).append(w)
    for label, by_dataset in cells.items():
        for here in by_dataset.values():
            refuse_false_spread(label, here, found)
    verdicts = {d: judge(found, {label: by[d] for label, by in cells.items() if d in by}) for d in datasets}
    published = {d: numbers for d in datasets if (numbers := paper(d))}
    columns = [Column(title) for title in names.columns]
    for dataset in datasets:
        columns += [Column.number(f"{dataset} {title}") for title in METRICS.values()]
        if dataset in published:
            columns.append(Column("paper", tuple(f"{dataset} paper {title}" for title in METRICS.values())))
    lines: list[list[Cell]] = []
    for label, by_dataset in cells.items():
        cell: list[Cell] = list(label)
        for dataset in datasets:
            here = by_dataset.get(dataset, [])
            cell += [number(found, here, m, verdicts[dataset].get((label, m), Verdict())) for m in METRICS]
            if dataset in published:
                none = Quoted((None, None))
                cell.append(published[dataset].get(published_as(here[0].run), none) if here else none)
        lines.append(cell)
    return Table(columns, lines, ([LEGEND] if any(verdicts.values()) else []) + found.legend)


def few_shot(run: Prompt, names: Lines) -> Label:
    """The line of the LLM itself: nothing is trained, so the columns of training are empty."""
    part = f", {run.n} of test" if run.n is not None else ""
    said = {"loss": f"{run.generator.model}, {run.shots} shots a label{part}"}
    return tuple(said.get(column, "–") for column in names.columns)


def published_as(run: "Run | Prompt") -> Label:
    """How the paper's tables call a line: what it is trained on, the method, and of a larger classifier the diversity checker."""
    if isinstance(run, Prompt):
        return "none", "few_shot_llm"
    if run.model.name != LARGER:
        return run.source.name, run.loss.name
    checker = run.checker.diversity.model or LARGER
    return run.source.name, run.loss.name, LARGER, checker if "diversity" in run.loss.needs else ""


def judge(found: Gathered, every: dict[Label, list[Wanted]]) -> dict[tuple[Label, str], Verdict]:
    """The verdicts on one dataset's trained lines.

    None where fewer than two seeds, or not the same ones, are there for all; nor where mixed rows have other test sets.
    """
    rows = found.rows
    trained = {
        label: [(w.id, w.run) for w in line if w.id in rows and not isinstance(w.run, Prompt)] for label, line in every.items()
    }
    lines = {label: line for label, line in trained.items() if line}
    seeds = [sorted(run.seed for _, run in line) for line in lines.values()]
    if len(lines) < 2 or any(s != seeds[0] for s in seeds) or len(seeds[0]) < 2:
        return {}
    methods: list[Method] = []
    answers: list[str] | None = None
    labels: list[str] = []
    for label, line in lines.items():
        ordered = sorted(line, key=lambda pair: pair[1].seed)
        said = [test_lines(found.store, rows[run_id]["id"]) for run_id, _ in ordered]
        answers, labels = answers or said[0][0], labels or rows[ordered[0][0]]["labels"]
        if any(truth != answers for truth, _ in said):
            if found.strange:
                return {}
            raise UserError(f"{ordered[0][0]}: its test examples are not those of the other rows: one table, one test set")
        position = {name: i for i, name in enumerate(labels)}
        predictions = np.array([[position[p] for p in predicted] for _, predicted in said])
        chosen = [selected(rows[run_id])["selection"] for run_id, _ in ordered]
        mean = None if None in chosen else sum(c["accuracy"] for c in chosen) / len(chosen)
        methods.append(Method(label, compared(ordered[0][1]), ordered[0][1].loss.name, mean, predictions))
    assert answers is not None
    targets = np.array([labels.index(answer) for answer in answers])
    return compare.verdicts(methods, targets, len(labels), list(METRICS))


def compared(run: "Run") -> tuple[str, ...]:
    """What the lines of a block share: the same classifier on the same data, its epoch chosen the same way.

    Loss, weighting, checkers and recipe are what is compared.
    """
    settings = Lines.settings(run)
    return tuple(f"{k}={v}" for k, v in settings.items() if k.split(".")[0] in ("source", "corruption", "model", "selection"))


def test_lines(store: Store, run_id: str) -> tuple[list[str], list[str]]:
    """The labels and the predictions of a row's test examples, in the order of the file."""
    table = store.table(run_id)
    test = table.filter(pc.field("split") == "test")
    return test["label"].to_pylist(), test["prediction"].to_pylist()


def paper(dataset: str) -> dict[Label, Quoted]:
    """The paper's accuracy and macro F1 of its tables of results by loss, by what `published_as` calls a line."""
    with PAPER.open(encoding="utf-8", newline="") as file:
        lines = [r for r in csv.DictReader(file) if r["dataset"] == dataset and r["table"] in ("table1", "noisy", "table2")]
    larger = {id(r): (r["model"], r["diversity_model"]) for r in lines if r["model"] == LARGER}
    return {
        (r["train_source"], r["method"], *larger.get(id(r), ())): Quoted((r["accuracy"], r["macro_f1"] or None)) for r in lines
    }


def number(found: Gathered, here: Sequence[Wanted], metric: str, verdict: Verdict) -> Number:
    """Mean, sd and n in %; one run alone has no spread; a missing run is counted."""
    present = [w.id for w in here if w.id in found.rows]
    marks = verdict.marks + MIXED * any(i in found.strange for i in present)
    return Number.of([100 * selected(found.rows[i])["test"][metric] for i in present], len(here), 1, marks, verdict.bold)


def refuse_false_spread(label: Label, here: Sequence[Wanted], found: Gathered) -> None:
    """A spread is over seeds of one thing on one test set (unless mixed, and marked). Raises UserError."""
    seeds = [w.run.seed for w in here]
    present: list[Row] = [found.rows[w.id] for w in here if w.id in found.rows]
    tests = {row["data"]["test"]["sha256"] for row in present}
    if len(set(seeds)) < len(seeds) or (len(tests) > 1 and not any(w.id in found.strange for w in here)):
        raise UserError(f"{' '.join(label)}: a seed twice, or two test sets, in one cell of the table: no spread of seeds")
