"""The command line's grammar: commands, their options, one line for an error. Imports nothing heavy."""

import argparse
import sys
from collections.abc import Sequence
from typing import NoReturn

from . import workbench

EPILOG = """\
your own data:
  synthweight fit --real reviews.csv --synthetic llm.jsonl --out my_model     chooses how to train, trains, explains
  synthweight predict my_model new.csv --out labelled.csv
  synthweight audit my_model             lists the synthetic examples, the most doubted first
  synthweight describe llm.jsonl --real reviews.csv     figures of a set: duplicates, diversity, distance to real examples
grammar of a run:  dataset= source= loss= model= optim= selection= seed= …, and any value by its key (loss.gamma=2)
  synthweight train dataset=product_reviews source=synthetic loss=dimp model=minilm seed=0
  synthweight train -m loss=ce,imp,dimp seed=0,1,2
  synthweight losses, datasets, models   list what there is
  synthweight train --help               names every loss and every setting; --cfg job shows what a run would be
  synthweight sweep demo                 runs what sweeps/demo.yaml lacks
  synthweight plan demo seed=0           says what that would be
  synthweight status demo                shows which process trains which run
  synthweight tables demo                prints the table of that sweep
  synthweight report demo                makes a page of it: seeds, differences, curves, confusions, provenance
  synthweight figures dynamics           draws its figures: SVG, PNG and the numbers as CSV
  synthweight wandb sync demo            sends its finished rows to W&B; synthweight wandb dashboard makes the page
  synthweight generate dataset=financial generator=openai n=3000 seed=0    has an LLM write the training data
  synthweight prompt dataset=financial generator=openai shots=8 seed=0     the LLM itself as classifier on test

--quiet with any command shows warnings and errors alone. Completion in the shell: eval "$(synthweight -sc install=bash)"
"""
HYDRAS = ("train", "generate", "prompt")  # all that follows one of these commands is Hydra's


SWEEP = "a name in sweeps/, or the path of a YAML file"


class ShowVersion(argparse.Action):
    """`--version`: prints what a report of a problem needs, and ends the program."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        from . import version  # imports torch

        print(version.describe())
        parser.exit()


class Parser(argparse.ArgumentParser):
    """argparse with one line for an error."""

    def error(self, message: str) -> NoReturn:
        stop(f"{message} (see {self.prog} --help)", 2)


def parser() -> argparse.ArgumentParser:
    """The grammar. A command's module has a function `run` that takes its options."""
    top = Parser(
        prog="synthweight",
        description="Trains text classifiers on LLM-written data with weighted losses, and compares them.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument(
        "--version",
        action=ShowVersion,
        nargs=0,
        help="version, commit, torch and device, for a report of a problem",
    )
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, module: str, text: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=text, description=text)
        added.set_defaults(module=module)
        return added

    command("train", "hydra_app", "one run; with -m one for every combination")
    sweep = command("sweep", "sweep", "run what a sweep file lacks, beside any number of others that do")
    sweep.add_argument("--retry-failed", action="store_true", help="try again what failed before")
    sweep.add_argument("--fail-fast", action="store_true", help="begin nothing more after the first failure")
    sweep.add_argument(
        "--stack-seeds", action="store_true", help="train the seeds of a configuration at once, as one stack"
    )
    sweep.add_argument(
        "--workers", type=int, default=1, metavar="N", help="so many processes, the cores divided among them"
    )
    plan = command("plan", "sweep", "say what a sweep would run, and how long that may take")
    status = command("status", "sweep", "what is running: a live table of a sweep, or of all outputs")
    status.add_argument("file", nargs="?", help=SWEEP)
    status.add_argument("--once", action="store_true", help="print the table and end")
    tables = command("tables", "report", "the table of a sweep, from rows")
    figures = command("figures", "report", "the figures of a sweep, or all of outputs/published.yaml")
    report = command("report", "report", "a sweep, or one run, as a page of HTML that needs no network")
    report.add_argument("file", help=f"{SWEEP}; or the id of a run", metavar="SWEEP|RUN_ID")
    report.add_argument(
        "--html", metavar="FILE", help="where to write it; reports/NAME.html in the outputs unless told"
    )
    wandb = command("wandb", "wandb", "finished rows and the dashboard, to W&B")
    wandb.add_argument(
        "action", choices=("sync", "dashboard"), help="send a sweep's rows; save the project's dashboard"
    )
    wandb.add_argument("file", nargs="?", help=f"{SWEEP}; dashboard: of all without one")
    wandb.add_argument(
        "--json", action="store_true", help="dashboard: write it to a file of the outputs folder alone"
    )
    command("generate", "hydra_app", "training data written by an LLM (conf/generate.yaml)")
    command("prompt", "hydra_app", "an LLM as few-shot classifier on test (conf/prompt.yaml)")
    for name in ("losses", "datasets", "models"):
        command(name, "choices", f"the {name} that there are, a line each")
    workbench.add(commands)
    for name in workbench.COMMANDS:
        commands.choices[name].set_defaults(module="workbench")
    for added in (sweep, plan):
        added.add_argument("file", help=SWEEP)
    for added in (tables, figures):
        added.add_argument("file", nargs="?", help=SWEEP)
    for added in (tables, figures, report):
        added.add_argument(
            "--partial", action="store_true", help="show missing runs as holes instead of refusing"
        )
    tables.add_argument(
        "--format", choices=("rich", "md", "latex", "csv", "html"), help="rich on a terminal, else md"
    )
    tables.add_argument(
        "--write", action="store_true", help="write all tables that outputs/published.yaml lists"
    )
    tables.add_argument(
        "--check", action="store_true", help="fail where a published table or figure differs from the rows"
    )
    for added in (sweep, plan, status, tables, figures, report, wandb):
        added.add_argument("overrides", nargs="*", help="key=value …", metavar="key=value")
    return top


def parse(typed: Sequence[str]) -> argparse.Namespace:
    """Options and overrides in any order. Exits with 2 for an option that no command has."""
    if typed and typed[0] in ("-sc", "--shell-completion"):
        return argparse.Namespace(command="completion", module="completion", arguments=list(typed))
    if typed and typed[0] in HYDRAS:
        return argparse.Namespace(command=typed[0], module="hydra_app", arguments=list(typed[1:]))
    top = parser()
    options, rest = top.parse_known_args(typed)
    unknown = [word for word in rest if word.startswith("-")]
    if unknown:
        top.error(f"unrecognized arguments: {' '.join(unknown)}")
    if rest:
        if not hasattr(options, "overrides"):
            top.error(f"unrecognized arguments: {' '.join(rest)}")
        options.overrides += rest
    return options


def stop(message: str, code: int) -> NoReturn:
    """Ends the program with one line on standard error."""
    print(f"synthweight: {message}", file=sys.stderr, flush=True)
    sys.exit(code)
