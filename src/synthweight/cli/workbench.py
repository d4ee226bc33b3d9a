"""`synthweight fit`, `predict`, `audit`, `push`, `describe`: a classifier from the user's own data, and what those are like."""

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import UserError, require

if TYPE_CHECKING:
    from ..workbench.api import Fitted
    from ..workbench.choose import Step

COMMANDS = ("fit", "predict", "audit", "push", "describe")


def add(commands: Any) -> None:
    """Adds the commands to the parser's."""
    fit = commands.add_parser("fit", help="real and LLM-written examples in, a classifier out")
    fit.add_argument("--real", required=True, help="real labelled examples: a file, or a hub name")
    fit.add_argument("--synthetic", required=True, help="LLM-written labelled examples, likewise")
    fit.add_argument("--test", help="real labelled examples that are used once, at the end")
    fit.add_argument("--out", required=True, type=Path, help="the folder to write")
    fit.add_argument("--overwrite", action="store_true", help="replace an earlier folder of fit")
    fit.add_argument("--loss", help="real, ce, mixed, filter, dimp, imp or any loss; left out, it is chosen")
    fit.add_argument("--model", default="minilm", help="a name in conf/model, a folder, or a name on the hub")
    fit.add_argument("--folds", type=int, default=5, help="folds of the cross-validation (5)")
    fit.add_argument("--metric", default="accuracy", help="what is compared: accuracy or macro_f1")
    fit.add_argument("--budget", type=float, metavar="MINUTES", help="compare less, to take about so long")
    drop = fit.add_argument("--drop", type=float, action="append", default=[], metavar="PERCENT")
    drop.help = "also try without this share of the most doubted synthetic examples"
    fit.add_argument("--drop-unknown", action="store_true", help="leave out labels that not all sets have")
    fit.add_argument("--no-texts", action="store_true", help="write no text into the audit and the report")
    fit.add_argument("--seed", type=int, default=0, help="of every training (0)")
    fit.add_argument("--work", type=Path, help="where trainings are kept (.cache/fit)")
    fit.add_argument("overrides", nargs="*", metavar="key=value", help="further settings: optim.epochs=3")
    predict = commands.add_parser("predict", help="labels for new texts by a folder of fit")
    predict.add_argument("model", type=Path, help="a folder that fit made")
    predict.add_argument("file", type=Path, nargs="?", help="the texts; else standard input, one per line")
    predict.add_argument("--out", type=Path, help="a file to write; without it JSONL on standard output")
    predict.add_argument("--proba", action="store_true", help="the probability of every class, too")
    audit = commands.add_parser("audit", help="the synthetic examples of a fit, the most doubted first")
    audit.add_argument("model", type=Path, help="a folder that fit made")
    audit.add_argument("--top", type=int, default=20, metavar="N", help="how many are listed (20)")
    audit.add_argument("--verdict", help="only those with this verdict")
    push = commands.add_parser("push", help="upload a folder of fit to the Hugging Face hub")
    push.add_argument("model", type=Path, help="a folder that fit made")
    push.add_argument("repository", metavar="USER/NAME", help="the repository, made where there is none")
    push.add_argument("--private", action="store_true", help="make it private")
    push.add_argument("--with-texts", action="store_true", help="upload the audit and the report, too")
    describe = commands.add_parser("describe", help="what a set of examples is like, in figures")
    describe.add_argument("file", help="labelled examples: a file, or a hub name")
    describe.add_argument("--real", help="real labelled examples to compare it with, likewise")
    model = "the encoder of the embeddings: a name in conf/model, a folder, or a name on the hub (minilm)"
    describe.add_argument("--model", default="minilm", help=model)
    describe.add_argument("--no-embeddings", action="store_true", help="without the figures of an encoder")
    describe.add_argument("--json", action="store_true", help="print the figures as JSON")
    describe.add_argument("--page", type=Path, metavar="FILE", help="also write them as an HTML page")
    for command in (fit, predict, describe):
        command.add_argument("--text", help="the column of the text, where it cannot be guessed")
        command.add_argument("--text-pair", help="the column of the second text of a pair")
    for command in (fit, predict):
        command.add_argument("--quiet", action="store_true", help="no progress")
    for command in (fit, describe):
        command.add_argument("--label", help="the column of the label, where it cannot be guessed")


def run(options: argparse.Namespace) -> None:
    """Runs one of COMMANDS. Raises UserError."""
    commands = {"fit": fit, "predict": predict, "audit": audit, "push": push, "describe": describe}
    commands[options.command](options)


def fit(options: argparse.Namespace) -> None:
    """Fits, and prints what was chosen and what the folder holds."""
    from ..workbench import api

    fitted = api.fit(
        options.real,
        options.synthetic,
        test=options.test,
        out=options.out,
        overwrite=options.overwrite,
        text=options.text,
        text_pair=options.text_pair,
        label=options.label,
        loss=options.loss,
        model=options.model,
        folds=options.folds,
        metric=options.metric,
        budget=options.budget,
        drop=options.drop,
        drop_unknown=options.drop_unknown,
        texts=not options.no_texts,
        seed=options.seed,
        work=options.work or api.CACHE,
        overrides=options.overrides,
        steps=show_steps if sys.stderr.isatty() and not options.quiet else api.log_steps,
    )
    print(summary(fitted))


@contextmanager
def show_steps(total: int, phase: str) -> Iterator["Step"]:
    """One bar on a terminal, with the rate and the time left."""
    from rich import progress as bars
    from rich.console import Console

    shown = bars.TextColumn("{task.description}"), bars.BarColumn(), bars.MofNCompleteColumn()
    times = bars.TimeElapsedColumn(), bars.TimeRemainingColumn()
    with bars.Progress(*shown, *times, console=Console(stderr=True)) as progress:
        bar = progress.add_task(phase, total=total)

        @contextmanager
        def step(name: str) -> Iterator[None]:
            progress.update(bar, description=f"{phase}: {name}")
            yield
            progress.advance(bar)

        yield step


def summary(fitted: "Fitted") -> str:
    """What `fit` prints: the comparison, the result, the audit in short, and where everything is."""
    from ..workbench import audit as audits

    settings = fitted.settings
    lines: list[str] = []
    if settings["choice"]:
        lines += [comparison(settings["choice"]), "", f"chosen: {settings['choice']['verdict']}"]
    else:
        lines += [f"trained: {settings['method']}, {settings['words']}; nothing was compared"]
    for key, words in (("estimate", "by the folds"), ("test", "on the test set")):
        if settings[key]:
            m = settings[key]
            shown = f"accuracy {m['accuracy']:.1%}, macro F1 {m['macro_f1']:.1%}"
            lines.append(f"{words}: {shown}, calibration error {m['ece']:.1%}")
    lines += ["", audits.summary(fitted.audit, top=0), ""]
    lines.append(f"{fitted.folder}: the model, README.md, report.html, synthetic_audit.csv")
    return "\n".join(lines)


def comparison(choice: dict[str, Any]) -> str:
    """The table of the methods, percentages."""
    lines = [f"  {'method':8} {choice['metric']:>9}   95 % interval    behind the best"]
    for c in choice["candidates"]:
        d = c["behind"]
        behind = (
            f"{d['mean']:.1%} ({d['low']:.1%} to {d['high']:.1%})" if c["name"] != choice["best"] else "best"
        )
        mark = "*" if c["name"] == choice["chosen"] else " "
        interval = f"{c['low']:.1%} to {c['high']:.1%}"
        lines.append(f"{mark} {c['name']:8} {c['score']:9.1%}   {interval:16} {behind:23} {c['words']}")
    return "\n".join(lines)


def predict(options: argparse.Namespace) -> None:
    """Labels a file or standard input."""
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    from ..workbench import predict as predictions
    from ..workbench.read import Columns

    predictor = predictions.Predictor(options.model)
    columns = Columns(options.text, options.text_pair)
    count = TextColumn("{task.completed} texts, {task.speed:.0f} per second")
    shown = SpinnerColumn(), count, TimeElapsedColumn()
    off = options.quiet or not sys.stderr.isatty()
    with Progress(*shown, console=Console(stderr=True), disable=off) as progress:
        bar = progress.add_task("", total=None)
        for done in predictions.predict_file(predictor, options.file, options.out, columns, options.proba):
            progress.update(bar, completed=done)
    if options.out is not None and not options.quiet:
        print(f"{options.out}: {done} texts")


def audit(options: argparse.Namespace) -> None:
    """Prints the audit of a fit."""
    from ..workbench import api
    from ..workbench import audit as audits

    require(options.top >= 0, "--top", "at least 0", options.top)
    if options.verdict is not None and options.verdict not in audits.VERDICTS:
        raise UserError(f"--verdict {options.verdict}: there are {', '.join(audits.VERDICTS)}")
    fitted = api.load(options.model)
    rows = [row for row in fitted.audit if options.verdict in (None, row.verdict)]
    print(audits.summary(rows, options.top))
    choice = fitted.settings["choice"]
    for c in choice["candidates"] if choice else []:
        if c["name"].startswith(("filter", "drop")):
            ce = next(other for other in choice["candidates"] if other["name"] == "ce")
            scores = f"{c['score']:.1%} {choice['metric']} by the folds, {ce['score']:.1%} with all of them"
            print(f"\n{c['words']}: {scores}")


def push(options: argparse.Namespace) -> None:
    """Uploads a folder of fit."""
    from ..workbench import export

    print(export.push(options.model, options.repository, options.private, options.with_texts))


def describe(options: argparse.Namespace) -> None:
    """Prints what a set of examples is like."""
    from ..workbench import describe as descriptions
    from ..workbench.read import Columns

    columns = Columns(options.text, options.text_pair, options.label)
    model = None if options.no_embeddings else options.model
    described = descriptions.describe(options.file, options.real, model, columns)
    print(described.as_json() if options.json else described.as_text())
    if options.page is not None:
        described.write_page(options.page)
