"""Tables from rows: exactly the runs that a sweep composes, mean ± standard deviation and n over seeds."""

import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import UserError
from .llm.settings import Prompt
from .stats import spread
from .store import Store

if TYPE_CHECKING:
    from .configs import Run

MARKER = re.compile(r"<!-- tables (?P<command>[^>]+?) -->\n(?P<body>.*?)<!-- /tables -->", re.DOTALL)
ALWAYS = ("trained on", "loss")
METRICS = {"accuracy": "accuracy", "macro_f1": "macro F1"}


def render(store: Store, runs: "list[tuple[str, Run | Prompt]]", name: str, partial: bool = False) -> str:
    """The Markdown table of a sweep: a line per source and loss, a pair of columns per dataset; % of the test set.

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
    names = distinct([run for _, run in runs if not isinstance(run, Prompt)])
    datasets = list(dict.fromkeys(run.dataset.name for _, run in runs))
    cells: dict[tuple[str, ...], dict[str, list[str]]] = {}
    for run_id, run in runs:
        line = few_shot(run, names) if isinstance(run, Prompt) else names(run)
        cells.setdefault(line, {}).setdefault(run.dataset.name, []).append(run_id)
    lines = [header(datasets, names), "|" + "---|" * (len(names.columns) + 2 * len(datasets))]
    for label, by_dataset in cells.items():
        found = [cell(by_dataset.get(dataset, []), rows, metric) for dataset in datasets for metric in METRICS]
        lines.append("| " + " | ".join([*label, *found]) + " |")
    return "\n".join(lines)


def brief(run: "Run | Prompt") -> str:
    if isinstance(run, Prompt):
        return f"{run.dataset.name} prompt {run.generator.model} seed {run.seed}"
    return f"{run.dataset.name} {run.source.name} {run.loss.name} seed {run.seed}"


def trained_on(run: "Run") -> str:
    """The source; of `file` its folder and name, since several files may stand in one table."""
    path = Path(run.source.path).parts[-2:] if run.source.name == "file" and run.source.path else ()
    return run.source.name + (f" {'/'.join(path)}" if path else "") + (f" ({run.source.n})" if run.source.n else "")


def few_shot(run: Prompt, names: "distinct") -> tuple[str, ...]:
    """The line of the LLM itself: nothing is trained, so the columns of training are empty."""
    part = f", {run.n} of test" if run.n is not None else ""
    said = {"trained on": "–", "loss": f"{run.generator.model}, {run.shots} shots a label{part}"}
    return tuple(said.get(column, "–") for column in names.columns)


class distinct:
    """What tells the lines of a table apart: source and loss always, other choices where they differ."""

    def __init__(self, runs: "list[Run]") -> None:
        readers: dict[str, Callable[[Run], str]] = {
            "trained on": trained_on,
            "loss": lambda r: r.loss.name,
            "model": lambda r: r.model.name,
            "selection": lambda r: r.selection.split,
            "quality checker": lambda r: r.checker.quality.model or r.model.name,
            "lr": lambda r: f"{r.optim.lr:g}",
            "epochs": lambda r: str(r.epochs),
        }
        varied = {key: {read(run) for run in runs} for key, read in readers.items()}
        by_source = {key: {(run.source.name, read(run)) for run in runs} for key, read in readers.items()}
        sources = len({run.source.name for run in runs})
        self.readers = {
            key: read
            for key, read in readers.items()
            if key in ALWAYS or (len(varied[key]) > 1 and len(by_source[key]) > sources)
        }
        self.columns = list(self.readers)

    def __call__(self, run: "Run") -> tuple[str, ...]:
        return tuple(read(run) for read in self.readers.values())


def header(datasets: list[str], names: distinct) -> str:
    titles = [f"{dataset} {title}" for dataset in datasets for title in METRICS.values()]
    return "| " + " | ".join([*names.columns, *titles]) + " |"


def cell(run_ids: list[str], rows: dict[str, dict[str, Any]], metric: str) -> str:
    """Mean ± sd (n), in %; one run alone has no spread; a missing run shows as a hole."""
    present = [rows[i] for i in run_ids if i in rows]
    holes = len(run_ids) - len(present)
    hole = f" [{holes} missing]" if holes else ""
    if not present:
        return f"–{hole}"
    s = spread([100 * selected(row)["test"][metric] for row in present])
    return (f"{s.mean:.1f} ± {s.sd:.1f} (n = {s.n})" if s.sd is not None else f"{s.mean:.1f} (n = 1)") + hole


def selected(row: dict[str, Any]) -> dict[str, Any]:
    """The epoch that stands."""
    return row["epochs"][row["selected_epoch"] - 1]


def refuse_mixture(rows: dict[str, dict[str, Any]]) -> None:
    """Trained rows of different device kinds, or versions, do not belong in one table. Raises UserError."""
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
