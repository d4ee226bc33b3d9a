"""The command `synthweight`. Imports nothing heavy before it is needed: --help answers at once."""

import argparse
import errno
import os
import shlex
import sys
from pathlib import Path
from typing import Any, NoReturn

from . import __version__
from .errors import SweepFailed, UserError, first_line

EPILOG = """\
grammar of a run:  dataset= source= loss= model= optim= selection= seed= …, and any value by its key (loss.gamma=2)
  synthweight train dataset=product_reviews source=synthetic loss=dimp model=minilm seed=0
  synthweight train -m loss=ce,imp,dimp seed='range(0,3)'
  synthweight sweep demo                 runs what sweeps/demo.yaml lacks
  synthweight plan demo seed=0           says what that would be
  synthweight tables demo                prints the table of that sweep
  synthweight figures dynamics           draws its figures: SVG, PNG and the numbers as CSV
  synthweight generate dataset=financial generator=openai n=3000 seed=0    has an LLM write the training data
  synthweight prompt dataset=financial generator=openai shots=8 seed=0     the LLM itself as classifier on test
"""


class Parser(argparse.ArgumentParser):
    """argparse with one line for an error."""

    def error(self, message: str) -> NoReturn:
        stop(f"{message} (see {self.prog} --help)", 2)


def parser() -> argparse.ArgumentParser:
    top = Parser(
        prog="synthweight",
        description="Trains text classifiers on LLM-written data with weighted losses, and compares them.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"synthweight {__version__}")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    train = commands.add_parser("train", help="one run; with -m one for every combination")
    train.add_argument("-m", "--multirun", action="store_true", help="Hydra's multirun: a,b and range(0,4) are swept")
    sweep = commands.add_parser("sweep", help="run what a sweep file lacks")
    plan = commands.add_parser("plan", help="say what a sweep would run")
    tables = commands.add_parser("tables", help="the table of a sweep, from rows")
    figures = commands.add_parser("figures", help="the figures of a sweep, or all of outputs/published.yaml")
    generate = commands.add_parser("generate", help="training data written by an LLM (conf/generate.yaml)")
    prompt = commands.add_parser("prompt", help="an LLM as few-shot classifier on test (conf/prompt.yaml)")
    for command in (sweep, plan):
        command.add_argument("file", help="a name in sweeps/, or the path of a YAML file")
    for command in (tables, figures):
        command.add_argument("file", nargs="?", help="a name in sweeps/, or the path of a YAML file")
        command.add_argument("--partial", action="store_true", help="show missing runs as holes instead of refusing")
        command.add_argument(
            "--mixed", action="store_true", help="fill holes with rows of another VERSION, data or device, marked"
        )
    tables.add_argument("--format", choices=("md", "latex", "csv"), default="md", help="md unless told")
    tables.add_argument("--write", action="store_true", help="write README's tables and outputs/tables")
    tables.add_argument("--check", action="store_true", help="fail where README, tables or figures differ from the rows")
    generate.add_argument("--budget", metavar="DOLLARS", help="stop before this is spent; the same as budget=DOLLARS")
    for command in (train, sweep, plan, tables, figures, generate, prompt):
        command.add_argument("overrides", nargs="*", help="key=value …", metavar="key=value")
    return top


def main(arguments: list[str] | None = None) -> None:
    """Runs a command and exits: 0 done, 1 a run failed, 2 bad input, 130 interrupted. One line for an error."""
    typed = sys.argv[1:] if arguments is None else arguments
    options = parse(typed)
    os.environ["HYDRA_FULL_ERROR"] = "1"
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ["SYNTHWEIGHT_COMMAND"] = shlex.join(["synthweight", *typed])
    try:
        dispatch(options)
    except UserError as error:
        sweep_failed = isinstance(error, SweepFailed)  # the one message with several lines: one a failed run
        stop(str(error) if sweep_failed else first_line(error), 1 if sweep_failed else 2)
    except KeyboardInterrupt:
        stop("interrupted; no half row was written: the same command goes on where it stopped", 130)
    except OSError as error:
        name = f"{error.filename}: " if error.filename else ""
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)
        advice = ": make room, or name other folders by paths.outputs= and paths.cache=" if full else ""
        stop(f"{name}{error.strerror or error}{advice}", 1)
    except Exception as error:
        mark = getattr(error, "problem_mark", None)
        if mark is not None:  # of a YAML file
            stop(f"{mark.name}:{mark.line + 1}: broken YAML ({getattr(error, 'problem', error)})", 2)
        if os.environ.get("SYNTHWEIGHT_TRACEBACK"):
            raise
        first = first_line(error)
        stop(f"{type(error).__name__}: {first} (SYNTHWEIGHT_TRACEBACK=1 shows where; a run's is in its failed.json)", 1)


def parse(typed: list[str]) -> argparse.Namespace:
    """Options and overrides in any order. Exits with 2 for an option that no command has."""
    top = parser()
    options, rest = top.parse_known_args(typed)
    unknown = [word for word in rest if word.startswith("-")]
    if unknown:
        top.error(f"unrecognized arguments: {' '.join(unknown)}")
    options.overrides += rest
    return options


def stop(message: str, code: int) -> NoReturn:
    print(f"synthweight: {message}", file=sys.stderr, flush=True)
    sys.exit(code)


def dispatch(options: argparse.Namespace) -> None:
    if not (Path(__file__).resolve().parents[2] / "conf" / "config.yaml").is_file():
        raise UserError("conf/ is not beside the package: use synthweight from its clone, installed with pip install -e .")
    if options.command == "train":
        hydra_app((["--multirun"] if options.multirun else []) + options.overrides)
    elif options.command == "sweep":
        from . import sweep

        file = sweep.find(options.file)
        hydra_app([f"--config-dir={file.parent}", f"--config-name={file.stem}", *sweep.set_aside(options.overrides)])
    elif options.command == "plan":
        show_plan(options.file, options.overrides)
    elif options.command in ("generate", "prompt"):
        budget = [f"budget={options.budget}"] if getattr(options, "budget", None) is not None else []
        ask_llm(options.command, [*options.overrides, *budget])
    elif options.command == "figures":
        draw_figures(options)
    else:
        show_tables(options)


def hydra_app(arguments: list[str]) -> None:
    """Hands over to Hydra, which composes and calls `task` once a job."""
    import hydra
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    from . import compose, configs, schema

    schema.register()
    kept, sys.argv = sys.argv, ["synthweight", *arguments]
    failures.clear()
    try:
        hydra.main(version_base="1.3", config_path=str(configs.CONF), config_name="config")(task)()
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(compose.explain(error)) from error
    finally:
        sys.argv = kept
    if failures:
        raise failures[0]


def ask_llm(command: str, overrides: list[str]) -> None:
    """Composes from the command's own root configuration, and hands over."""
    from . import compose, configs

    with compose.offline(configs.CONF):
        composer = compose.Composer(command)
        if command == "generate":
            from . import generate

            generate.generate(composer.generate(overrides))
        else:
            from . import prompt

            prompt.classify(composer.prompt(overrides))


failures: list[Exception] = []  # of a single run: Hydra would print a line of its own before it raised


def task(config: Any) -> None:
    """One job of Hydra's: bind, train."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    from . import compose, run, schema, sweep

    here = HydraConfig.get()
    label = sweep.progress(here.job.num if here.mode == RunMode.MULTIRUN else None)
    try:
        compose.refuse(list(here.overrides.task))
        run.train(schema.bind(config), label)
    except Exception as error:
        if here.mode == RunMode.MULTIRUN:  # the sweeper lists it at the end; the others go on
            print(f"{label}failed: {type(error).__name__}: {first_line(error)}", flush=True)
            raise
        failures.append(error)


def show_plan(file: str, overrides: list[str]) -> None:
    from .published import plan
    from .sweep import told

    found = plan(file, *overrides).planned
    first = {job.who.id for job in found.waves[0]}
    for job in found.jobs:
        state = "done" if job.done else "first" if job.who.id in first else "to do"
        added = "" if job.row else "  (a checker, no row of the table)"
        print(f"{state:>6}  {job.who.id}  {told(job.who.run)}{added}")
    done = sum(job.done for job in found.rows)
    print(f"Jobs: {len(found.rows)}; done {done}, to do {found.todo} with their checkers")


def show_tables(options: argparse.Namespace) -> None:
    from . import formats, published
    from .configs import ROOT

    if options.write or options.check:
        if options.file is not None or options.partial or options.mixed:
            raise UserError("tables --write and --check do all that README's markers and outputs/published.yaml list: no name")
        published.readme(ROOT / "README.md", published.markdown, write=options.write)
        listed = published.Published.read(ROOT / "outputs")
        if options.write:
            listed.write_tables()
        else:
            listed.check()
    elif options.file is None:
        raise UserError("tables needs the name of a sweep: synthweight tables demo")
    else:
        made = published.table(options.file, options.overrides, options.partial, options.mixed)
        print(formats.FORMATS[options.format](made, None), end="")


def draw_figures(options: argparse.Namespace) -> None:
    from . import drawing, published
    from .configs import ROOT

    if options.file is None:
        if options.overrides or options.partial or options.mixed:
            raise UserError("figures without a name draws what outputs/published.yaml lists: name a sweep, or give nothing")
        for stem, command, chart in published.Published.read(ROOT / "outputs").drawn():
            print(*drawing.write(chart, ROOT / "outputs" / "figures", stem, command), sep="\n", flush=True)
        return
    name = Path(options.file).stem
    folder, charts = published.charts(options.file, options.overrides, name, options.partial, options.mixed)
    for stem, chart in charts.items():
        command = shlex.join(["synthweight", "figures", options.file, *options.overrides])
        print(*drawing.write(chart, folder / "figures", stem, command), sep="\n", flush=True)
