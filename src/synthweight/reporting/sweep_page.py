"""`synthweight report SWEEP`: a sweep as one page, from its rows alone."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
from markupsafe import Markup

from .. import __version__
from ..config.llm_schema import Prompt
from ..config.overrides import flat
from ..errors import UserError
from . import charts, pages, svg
from .marks import Method
from .publish import TABLES
from .render import to_html
from .rows import Label, Row, RowLabeler, RowSet, selected_epoch
from .significance import Difference, holm
from .tables.results import METRICS, MIN_SEEDS, Lines, group_lines, read_method

if TYPE_CHECKING:
    from ..config.schema import Run

MOST_CLASSES = 12  # of a confusion matrix that can be read
MOST_LINES = 75  # that are all compared with each other; of more, each with CE alone
EXPLAINED = ("dataset", "model")  # groups whose other settings follow from their name


def sweep_page(rows: RowSet, name: str, table: str = "results", figures: Sequence[str] = ()) -> str:
    """The page of a sweep.

    Args:
        rows: Its runs and their rows.
        name: The sweep and its overrides, as on a command line.
        table: The kind of its table, a key of TABLES.
        figures: The kinds of its figures, keys of CHARTS.

    Raises:
        UserError: No run has a row, or a cell of the table would average rows that do not belong together.
    """
    if not rows.rows:
        raise UserError(f"{name}: none of its {len(rows.requested)} runs has a row: nothing to report")
    labeler = RowLabeler([run for _, run in rows.trained])
    lines = group_lines(rows, labeler)
    names = line_names(labeler, lines)
    drawn, remarks = draw_charts(rows, figures)
    pairs, confusions = compare(rows, lines, names)
    return pages.render(
        "sweep.html.j2",
        name=name,
        version=__version__,
        rows=rows,
        tables=html_tables(rows, table),
        dots=dot_plots(rows, lines, names),
        pairs=pages.long_table(
            [
                ("dataset", "text"), ("metric", "text"), ("first", "text"), ("second", "text"),
                ("first − second", "text"), ("", "interval"), ("p", "number"), ("seeds", "number"),
            ],
            pairs, sort=6, filters=[0, 1, 2, 3], condensed=[0],
        ),
        tested=any(pair[6] is not None for pair in pairs),
        min_seeds=MIN_SEEDS,
        with_ce_alone=len(lines) > MOST_LINES,
        confusions=confusions,
        charts=drawn,
        remarks=remarks,
        provenance=provenance([rows.rows[r.id] for r in rows.requested if r.id in rows.rows]),
        runs=run_table(rows, lines, names),
        first=first_row(rows),
        settings=[(key, RowLabeler.text(value)) for key, value in flat(first_row(rows)["config"])],
    )  # fmt: skip


def first_row(rows: RowSet) -> Row:
    """The first row in the order of the sweep."""
    return next(rows.rows[r.id] for r in rows.requested if r.id in rows.rows)


def line_names(labeler: RowLabeler, lines: Lines) -> dict[Label, str]:
    """A name for every line: what differs between lines."""
    shown = [i for i in range(len(labeler.columns)) if len({label[i] for label in lines}) > 1]
    shown = shown or [1]
    return {
        label: ", ".join(
            label[i] if i < 2 else f"{labeler.columns[i]} {label[i]}" for i in shown if label[i] != "–"
        )
        for label in lines
    }


def html_tables(rows: RowSet, table: str) -> list[tuple[str, Markup]]:
    """(title, HTML) of the results, the sweep's own table and the seconds; a reason where one cannot be made."""
    out = []
    for kind in dict.fromkeys(["results", table, "timing"]):
        if kind != "results" and not rows.trained:
            continue
        try:
            text = Markup(to_html(TABLES[kind](rows)))
        except UserError as error:
            text = Markup("<p>{}</p>").format(f"Not shown: {error}.")
        title = {"results": "Results", "timing": "Seconds"}.get(kind, kind.replace("_", " ").capitalize())
        out.append((title, text))
    return out


def draw_charts(rows: RowSet, figures: Sequence[str]) -> tuple[list[tuple[str, svg.SvgChart]], list[str]]:
    """(title, chart) of the training curves, test after each epoch, and the sweep's own figures; why others lack."""
    if not any(r.id in rows.rows for r, _ in rows.trained):
        return [], []
    made: list[tuple[str, Callable[[RowSet], charts.Chart]]] = [("Dynamics", charts.training_curves)]
    trained = [rows.rows[r.id] for r, _ in rows.trained if r.id in rows.rows]
    kinds = list(figures)
    if all(e["test"] is not None for row in trained for e in row["epochs"]):
        kinds = ["dynamics", *kinds]
    titles = {"dynamics": "Test after each epoch", "distribution": "Distribution of weights"}
    made += [
        (titles.get(k, k.replace("_", " ").capitalize()), charts.CHARTS[k]) for k in dict.fromkeys(kinds)
    ]
    drawn, remarks = [], []
    for title, make in made:
        try:
            drawn.append((title, svg.draw(make(rows))))
        except UserError as error:
            remarks.append(f"{title}: {error}.")
    return drawn, remarks


def dot_plots(rows: RowSet, lines: Lines, names: dict[Label, str]) -> list[tuple[str, Markup]]:
    """(title, SVG) of each dataset and metric: a dot per seed, and the means."""
    out = []
    for dataset in rows.datasets:
        for metric, title in METRICS.items():
            shown = []
            for label, by_dataset in lines.items():
                finished = [r for r in by_dataset.get(dataset, []) if r.id in rows.rows]
                values = {r.run.seed: 100 * selected_epoch(rows.rows[r.id])["test"][metric] for r in finished}
                if values:
                    shown.append(svg.SeedDots(names[label], loss_name(finished[0].run), values))
            if shown:
                out.append((dataset, svg.dot_plot(shown, f"{dataset} {title} (%)")))
    return out


def loss_name(run: "Run | Prompt") -> str:
    """The loss of a run; of a few-shot classification none."""
    return "" if isinstance(run, Prompt) else run.loss.name


def compare(
    rows: RowSet, lines: Lines, names: dict[Label, str]
) -> tuple[list[list[Any]], list[dict[str, Any]]]:
    """The rows of the table of pairwise differences, and the confusion matrices, summed over seeds."""
    pairs: list[list[Any]] = []
    confusions = []
    for dataset in rows.datasets:
        read: list[tuple[np.ndarray, Method]] = []
        classes: list[str] = []
        for label, by_dataset in lines.items():
            finished = [(r.run, rows.rows[r.id]) for r in by_dataset.get(dataset, []) if r.id in rows.rows]
            line = [(run, row) for run, row in finished if not isinstance(run, Prompt)]
            if not line:  # an LLM's answer may be no class at all
                continue
            classes, test = line[0][1]["labels"], line[0][1]["data"]["test"]["sha256"]
            targets, method = read_method(rows.store, label, line, classes)
            read.append((targets, replace(method, block=(test, *method.block))))
            if len(classes) <= MOST_CLASSES:
                predictions = method.predictions.values()
                counts = sum(pages.confusion(targets, each, len(classes)) for each in predictions)
                name = f"{dataset}: " * (len(rows.datasets) > 1) + names[label]
                name += f", {len(predictions)} seeds" * (len(predictions) > 1)
                confusions.append({"labels": classes, "counts": np.asarray(counts).tolist(), "name": name})
        pairs += [
            [dataset, *pair] for metric in METRICS for pair in pairwise(read, names, len(classes), metric)
        ]
    return pairs, confusions


def pairwise(
    read: Sequence[tuple[np.ndarray, Method]], names: dict[Label, str], classes: int, metric: str
) -> Iterator[list[Any]]:
    """The differences of all lines on the same data in points: tested where five seeds are shared, Holm over all.

    Args:
        read: The true classes of the test examples and the line, of each line.
        names: Of the lines.
        classes: Number of classes.
        metric: `accuracy` or `macro_f1`.
    """
    both = [(a, b) for a, b in combinations(read, 2) if a[1].block == b[1].block]
    if len(read) > MOST_LINES:
        both = [(a, b) for a, b in both if "ce" in (a[1].loss, b[1].loss)]
    found: list[tuple[Method, Method, Difference, int]] = []
    for (targets, a), (_, b) in both:
        if (d := a.less(b, targets, classes, metric, min_seeds=2)) is not None:
            found.append((a, b, d, len(a.predictions.keys() & b.predictions.keys())))
    adjusted = iter(holm([d.p for *_, d, n in found if n >= MIN_SEEDS]))
    for a, b, d, n in found:
        mean, low, high = (round(100 * value, 2) for value in (d.mean, d.low, d.high))
        p: float | None = None
        interval: list[float | None] = [mean, None, None]
        text = f"{mean:+.1f}"
        if n >= MIN_SEEDS:
            text += f" [{low:+.1f}, {high:+.1f}]"
            p, interval = round(next(adjusted), 4), [mean, low, high]
        yield [METRICS[metric], names[a.label], names[b.label], text.replace("-", "−"), interval, p, n]


def provenance(rows: Sequence[Row]) -> list[tuple[str, list[str]]]:
    """What the runs were made with: (what, its values with the number of runs where there are several)."""
    out = []
    made = [row["provenance"] for row in rows]

    def counted(name: str, values: Sequence[str]) -> None:
        counts = Counter(values)
        out.append((name, [value + f" ({n} runs)" * (len(counts) > 1) for value, n in counts.most_common()]))

    counted(
        "commit", [p["commit"][:12] + " with changes" * bool(p["dirty"]) for p in made if p.get("commit")]
    )
    counted(
        "device",
        [
            f"{p['device']['name']}" + f", {p['threads']} threads" * bool(p["threads"])
            for p in made
            if "device" in p
        ],
    )
    for package in dict.fromkeys(name for p in made for name in p.get("versions", {})):
        counted(package, [p["versions"][package] for p in made if package in p.get("versions", {})])
    counted("command", [" ".join(p["argv"]) for p in made if p.get("argv")])
    times = sorted(p[key] for p in made for key in ("started", "finished") if p.get(key))
    if times:
        out.append(("made", [f"{times[0]} to {times[-1]}"]))
    return [(name, values) for name, values in out if values]


def run_table(rows: RowSet, lines: Lines, names: dict[Label, str]) -> dict[str, Any]:
    """The table of the runs: results, and settings by what differs from the first run's."""
    first = dict(flat(first_row(rows)["config"]))
    name_of = {
        r.id: names[label]
        for label, by_dataset in lines.items()
        for each in by_dataset.values()
        for r in each
    }
    values = []
    for r in rows.requested:
        if r.id not in rows.rows:
            values.append(
                [r.id, rows.dataset(r.run), name_of[r.id], r.run.seed, *[None] * 3, "no row", None, None]
            )
            continue
        row = rows.rows[r.id]
        test = selected_epoch(row)["test"]
        finished = (row["provenance"].get("finished") or "")[:16].replace("T", " ")
        values.append([
            r.id, rows.dataset(r.run), name_of[r.id], r.run.seed,
            round(100 * test["accuracy"], 1), round(100 * test["macro_f1"], 1), row["selected_epoch"],
            settings_difference(first, dict(flat(row["config"]))),
            round(row["seconds"]["train"], 1) if "train" in row["seconds"] else None, finished,
        ])  # fmt: skip
    columns = [
        ("id", "text"), ("dataset", "text"), ("line", "text"), ("seed", "number"), ("accuracy", "number"),
        ("macro F1", "number"), ("epoch", "number"), ("settings, less those of the first run", "long"),
        ("seconds", "number"), ("finished, UTC", "text"),
    ]  # fmt: skip
    return pages.long_table(columns, values, sort=-1, filters=[1, 2, 3], condensed=[1])


def settings_difference(first: dict[str, Any], other: dict[str, Any]) -> str:
    """What sets one run's settings apart from another's; a dataset's and a model's own settings by its name alone."""
    changed = {key: value for key, value in other.items() if key not in first or first[key] != value}
    for group in EXPLAINED:
        if f"{group}.name" in changed:
            changed = {
                k: v for k, v in changed.items() if not k.startswith(f"{group}.") or k == f"{group}.name"
            }
            first = {k: v for k, v in first.items() if not k.startswith(f"{group}.")}
    gone = [key for key in first if key not in other]
    text = ", ".join(f"{key}={RowLabeler.text(value)}" for key, value in changed.items())
    return text + ("; without " if text else "without ") * bool(gone) + ", ".join(gone) if gone else text
