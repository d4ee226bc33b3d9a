"""Tables from rows: exactly the runs that a sweep composes, mean ± standard deviation and n over seeds."""

import csv
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pyarrow.compute as pc

from . import compare
from .compare import LEGEND, Method, Verdict
from .compose import flat
from .configs import ROOT, as_dict
from .errors import UserError
from .llm.settings import Prompt
from .stats import spread
from .store import Store

if TYPE_CHECKING:
    from .configs import Run

MARKER = re.compile(r"<!-- tables (?P<command>[^>]+?) -->\n(?P<body>.*?)<!-- /tables -->", re.DOTALL)
PAPER = ROOT / "docs" / "paper_numbers.csv"
METRICS = {"accuracy": "accuracy", "macro_f1": "macro F1"}


def render(store: Store, runs: "list[tuple[str, Run | Prompt]]", name: str, partial: bool = False) -> str:
    """The Markdown table of a sweep: a line per source and loss, columns per dataset; % of the test set.

    With two seeds or more, differences are tested and the legend says how. The paper's number stands beside ours.

    Raises:
        UserError: a run is missing (named, unless `partial`), a row is damaged, or rows of different device kinds or
            versions would be averaged.
    """
    missing = [(run_id, run) for run_id, run in runs if not store.exists(run_id)]
    if missing and not partial:
        run_id, run = missing[0]
        raise UserError(
            f"{len(missing)} of {len(runs)} runs have no row, first {run_id} ({brief(run)}): "
            f"run synthweight sweep {name}, or ask for --partial"
        )
    rows = {run_id: store.row(run_id) for run_id, _ in runs if store.exists(run_id)}
    refuse_mixture(rows)
    names = Lines([run for _, run in runs if not isinstance(run, Prompt)])
    datasets = list(dict.fromkeys(run.dataset.name for _, run in runs))
    cells: dict[tuple[str, ...], dict[str, list[tuple[str, Run | Prompt]]]] = {}
    for run_id, run in runs:
        cells.setdefault(few_shot(run, names) if isinstance(run, Prompt) else names(run), {}).setdefault(
            run.dataset.name, []
        ).append((run_id, run))
    for label, by_dataset in cells.items():
        for here in by_dataset.values():
            refuse_false_spread(label, [run.seed for _, run in here], [rows[i] for i, _ in here if i in rows])
    verdicts = {d: judge(store, rows, {label: by[d] for label, by in cells.items() if d in by}) for d in datasets}
    published = {d: found for d in datasets if (found := paper(d))}
    out = [header(datasets, names, published)]
    for label, by_dataset in cells.items():
        line = list(label)
        for dataset in datasets:
            here = by_dataset.get(dataset, [])
            ids = [run_id for run_id, _ in here]
            line += [cell(ids, rows, metric, verdicts[dataset].get((label, metric), Verdict())) for metric in METRICS]
            if dataset in published:
                line.append(published[dataset].get(published_as(here[0][1]), "–") if here else "–")
        out.append("| " + " | ".join(line) + " |")
    return "\n".join(out + (["", LEGEND] if any(verdicts.values()) else []))


def brief(run: "Run | Prompt") -> str:
    if isinstance(run, Prompt):
        return f"{run.dataset.name} prompt {run.generator.model} seed {run.seed}"
    return f"{run.dataset.name} {run.source.name} {run.loss.name} seed {run.seed}"


def few_shot(run: Prompt, names: "Lines") -> tuple[str, ...]:
    """The line of the LLM itself: nothing is trained, so the columns of training are empty."""
    part = f", {run.n} of test" if run.n is not None else ""
    said = {"loss": f"{run.generator.model}, {run.shots} shots a label{part}"}
    return tuple(said.get(column, "–") for column in names.columns)


def published_as(run: "Run | Prompt") -> tuple[str, str]:
    """How the paper's table calls a line: what it is trained on, and the method."""
    return ("none", "few_shot_llm") if isinstance(run, Prompt) else (run.source.name, run.loss.name)


def judge(
    store: Store, rows: dict[str, dict[str, Any]], every: "dict[tuple[str, ...], list[tuple[str, Run | Prompt]]]"
) -> dict[tuple[tuple[str, ...], str], Verdict]:
    """The verdicts on one dataset's trained lines; none where fewer than two seeds, or not the same ones, are there for all."""
    trained = {label: [(i, run) for i, run in line if i in rows and not isinstance(run, Prompt)] for label, line in every.items()}
    lines = {label: line for label, line in trained.items() if line}
    seeds = [sorted(run.seed for _, run in line) for line in lines.values()]
    if len(lines) < 2 or any(s != seeds[0] for s in seeds) or len(seeds[0]) < 2:
        return {}
    methods: list[Method] = []
    answers: list[str] | None = None
    labels: list[str] = []
    for label, line in lines.items():
        ordered = sorted(line, key=lambda pair: pair[1].seed)
        found = [test_lines(store, run_id) for run_id, _ in ordered]
        answers, labels = answers or found[0][0], rows[ordered[0][0]]["labels"]
        if any(truth != answers for truth, _ in found):
            raise UserError(f"{ordered[0][0]}: its test examples are not those of the other rows: one table, one test set")
        position = {name: i for i, name in enumerate(labels)}
        predictions = np.array([[position[p] for p in predicted] for _, predicted in found])
        chosen = [selected(rows[run_id])["selection"] for run_id, _ in ordered]
        mean = None if None in chosen else sum(c["accuracy"] for c in chosen) / len(chosen)
        block = tuple(text for i, text in enumerate(label) if i != 1)  # all that tells lines apart but the loss
        methods.append(Method(label, block, ordered[0][1].loss.name, mean, predictions))
    assert answers is not None
    targets = np.array([labels.index(answer) for answer in answers])
    return compare.verdicts(methods, targets, len(labels), list(METRICS))


def test_lines(store: Store, run_id: str) -> tuple[list[str], list[str]]:
    """The labels and the predictions of a row's test examples, in the order of the file."""
    table = store.table(run_id)
    test = table.filter(pc.field("split") == "test")
    return test["label"].to_pylist(), test["prediction"].to_pylist()


def paper(dataset: str) -> dict[tuple[str, str], str]:
    """The paper's accuracy / macro F1 by (trained on, loss), for its tables of results by loss."""
    with PAPER.open(encoding="utf-8", newline="") as file:
        lines = [r for r in csv.DictReader(file) if r["dataset"] == dataset and r["table"] in ("table1", "noisy")]
    return {(r["train_source"], r["method"]): f"{r['accuracy']} / {r['macro_f1'] or '–'}" for r in lines}


class Lines:
    """What tells the lines of a table apart: source, loss, and every other setting that neither of them explains.

    Seeds are what a line's spread is over, datasets are columns; paths and loggers change nothing.
    """

    FIRST = ("source.name", "loss.name", "model.name", "selection.split", "source.n")
    TITLES: ClassVar[dict[str, str]] = {"source.name": "trained on", "loss.name": "loss", "model.name": "model"}

    def __init__(self, runs: "list[Run]") -> None:
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
        return {k: v for k, v in flat(as_dict(run)) if k.split(".")[0] not in ("seed", "paths", "logger")}

    @staticmethod
    def text(value: Any) -> str:
        return "–" if value is None else f"{value:g}" if isinstance(value, float) else str(value)

    def label(self, settings: dict[str, Any]) -> tuple[str, ...]:
        return tuple(self.text(settings.get(key)) for key in self.keys)

    def __call__(self, run: "Run") -> tuple[str, ...]:
        return self.label(self.settings(run))


def header(datasets: list[str], names: Lines, published: dict[str, Any]) -> str:
    titles = list(names.columns)
    for dataset in datasets:
        titles += [f"{dataset} {title}" for title in METRICS.values()] + (["paper"] if dataset in published else [])
    return "| " + " | ".join(titles) + " |\n|" + "---|" * len(titles)


def cell(run_ids: list[str], rows: dict[str, dict[str, Any]], metric: str, verdict: Verdict) -> str:
    """Mean ± sd (n), in %; one run alone has no spread; a missing run shows as a hole."""
    present = [rows[i] for i in run_ids if i in rows]
    holes = len(run_ids) - len(present)
    hole = f" [{holes} missing]" if holes else ""
    if not present:
        return f"–{hole}"
    s = spread([100 * selected(row)["test"][metric] for row in present])
    number = f"{s.mean:.1f} ± {s.sd:.1f}" if s.sd is not None else f"{s.mean:.1f}"
    return f"{f'**{number}**' if verdict.bold else number}{verdict.marks} (n = {s.n}){hole}"


def selected(row: dict[str, Any]) -> dict[str, Any]:
    """The epoch that stands."""
    return row["epochs"][row["selected_epoch"] - 1]


def refuse_false_spread(label: tuple[str, ...], seeds: list[int], rows: list[dict[str, Any]]) -> None:
    """A spread is over seeds of one thing on one test set. Raises UserError."""
    if len(set(seeds)) < len(seeds) or len({row["data"]["test"]["sha256"] for row in rows}) > 1:
        raise UserError(f"{' '.join(label)}: a seed twice, or two test sets, in one cell of the table: no spread of seeds")


def refuse_mixture(rows: dict[str, dict[str, Any]]) -> None:
    """Rows of different device kinds or versions do not belong in one table. Raises UserError."""
    for what, read in {
        "device kinds": lambda row: row["provenance"]["device"]["kind"],
        "versions": lambda row: str(row["version"]),
    }.items():
        kinds: dict[str, str] = {}
        for run_id, row in rows.items():
            if row.get("kind") == "prompt":  # somebody's server: its device is none that the trained rows could share
                continue
            kinds.setdefault(read(row), run_id)
        if len(kinds) > 1:
            raise UserError(
                f"rows of different {what} in one table: " + ", ".join(f"{kind} ({run_id})" for kind, run_id in kinds.items())
            )


def markers(readme: Path, table: Callable[[str, list[str]], str], write: bool) -> None:
    """Writes, or checks, what stands between `<!-- tables NAME overrides -->` and `<!-- /tables -->`.

    Raises:
        UserError: there is no marker, or (checking) the text is not what the rows give; the marker is named.
    """
    text = readme.read_text(encoding="utf-8")
    found = list(MARKER.finditer(text))
    if not found:
        raise UserError(f"{readme}: no <!-- tables NAME --> marker")
    out, position = [], 0
    for match in found:
        name, *overrides = shlex.split(match["command"])
        body = table(name, overrides) + "\n"
        if not write and body != match["body"]:
            raise UserError(
                f"{readme.name}: the table of '{match['command']}' is not what the rows give: synthweight tables --readme"
            )
        out += [text[position : match.start("body")], body]
        position = match.end("body")
    if write:
        readme.write_text("".join([*out, text[position:]]), encoding="utf-8")
    print(f"{readme.name}: {len(found)} table(s) {'written' if write else 'equal the rows'}")
