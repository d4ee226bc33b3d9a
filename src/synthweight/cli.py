"""The command `synthweight`. Imports nothing heavy before it is needed: --help answers at once."""

import argparse
import errno
import os
import shlex
import sys
from pathlib import Path
from typing import Any, NoReturn

from . import __version__
from .errors import SweepFailed, UserError, disk_full, first_line, require

EPILOG = """\
grammar of a run:  dataset= source= loss= model= optim= selection= seed= …, and any value by its key (loss.gamma=2)
  synthweight train dataset=product_reviews source=synthetic loss=dimp model=minilm seed=0
  synthweight train -m loss=ce,imp,dimp seed='range(0,3)'
  synthweight sweep demo                 runs what sweeps/demo.yaml lacks
  synthweight plan demo seed=0           says what that would be
  synthweight status demo                shows who is at what
  synthweight tables demo                prints the table of that sweep
  synthweight generate dataset=financial generator=openai n=3000 seed=0    has an LLM write the training data
  synthweight prompt dataset=financial generator=openai shots=8 seed=0     the LLM itself as classifier on test
"""


MAKE_ROOM = "make room, or name other folders by paths.outputs= and paths.cache=; the same command goes on where it stopped"


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
    sweep = commands.add_parser("sweep", help="run what a sweep file lacks, beside any number of others that do")
    sweep.add_argument("--retry-failed", action="store_true", help="try again what failed before")
    sweep.add_argument("--fail-fast", action="store_true", help="begin nothing more after the first failure")
    sweep.add_argument("--workers", type=int, default=1, metavar="N", help="so many processes, the cores divided among them")
    plan = commands.add_parser("plan", help="say what a sweep would run, and how long that may take")
    status = commands.add_parser("status", help="who is at what: a live table of a sweep, or of all outputs")
    status.add_argument("file", nargs="?", help="a name in sweeps/, or the path of a YAML file")
    status.add_argument("--once", action="store_true", help="print the table and end")
    tables = commands.add_parser("tables", help="the table of a sweep, from rows")
    generate = commands.add_parser("generate", help="training data written by an LLM (conf/generate.yaml)")
    prompt = commands.add_parser("prompt", help="an LLM as few-shot classifier on test (conf/prompt.yaml)")
    for command in (sweep, plan):
        command.add_argument("file", help="a name in sweeps/, or the path of a YAML file")
    tables.add_argument("file", nargs="?", help="a name in sweeps/, or the path of a YAML file")
    tables.add_argument("--partial", action="store_true", help="show missing runs as holes instead of refusing")
    tables.add_argument("--readme", action="store_true", help="write the tables between README's markers")
    tables.add_argument("--check", action="store_true", help="fail where README differs from the rows")
    generate.add_argument("--budget", metavar="DOLLARS", help="stop before this is spent; the same as budget=DOLLARS")
    for command in (train, sweep, plan, status, tables, generate, prompt):
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
        refused = error.errno in (errno.EACCES, errno.EPERM) or disk_full(error)
        stop(f"{name}{error.strerror or error}{f': {MAKE_ROOM}' if refused else ''}", 1)
    except Exception as error:
        if disk_full(error):  # in a library's own words
            stop(f"{first_line(error)}: {MAKE_ROOM}", 1)
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
        run_sweep(options)
    elif options.command == "plan":
        from . import status

        print(status.plan_text(planned(options.file, options.overrides)))
    elif options.command == "status":
        from . import status

        if options.file is None or "=" in options.file:  # of the whole folder; the first word is an override
            view = status.of_folder([*filter(None, [options.file]), *options.overrides])
        else:
            view = status.of_sweep(planned(options.file, options.overrides))
        status.watch(view, options.once)
    elif options.command in ("generate", "prompt"):
        budget = [f"budget={options.budget}"] if getattr(options, "budget", None) is not None else []
        ask_llm(options.command, [*options.overrides, *budget])
    else:
        show_tables(options)


def hydra_app(arguments: list[str]) -> None:
    """Hands over to Hydra, which composes and calls `task` once a job."""
    import hydra
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    from . import configs, overrides, schema

    schema.register()
    kept, sys.argv = sys.argv, ["synthweight", *arguments]
    failures.clear()
    try:
        hydra.main(version_base="1.3", config_path=str(configs.CONF), config_name="config")(task)()
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(overrides.explain(error)) from error
    finally:
        sys.argv = kept
    if failures:
        raise failures[0]


def run_sweep(options: argparse.Namespace) -> None:
    """One worker in this process, or several in processes of their own."""
    from . import blocks, workers
    from .execute import WORKER, Options

    require(options.workers >= 1, "--workers", "at least 1", options.workers)
    file = blocks.find(options.file)
    treat = Options(options.retry_failed, options.fail_fast, listed=WORKER not in os.environ)
    if options.workers > 1:
        workers.run(planned(str(file), options.overrides), options.workers, treat, str(file), options.overrides)
        return
    treat.hand_over()
    hydra_app([f"--config-dir={file.parent}", f"--config-name={file.stem}", *blocks.set_aside(options.overrides)])


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


def task(config: Any) -> Any:
    """One job of Hydra's: bind, train. In a sweep, a run that another process is at is left to it."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    from . import execute, overrides, run, schema

    here = HydraConfig.get()
    many = here.mode == RunMode.MULTIRUN
    label = execute.progress(here.job.num if many else None)
    try:
        overrides.refuse(list(here.overrides.task))
        return run.train(schema.bind(config), label, wait=not many)
    except Exception as error:
        if many:  # the sweeper lists it at the end; the others go on
            print(f"{label}failed: {type(error).__name__}: {first_line(error)}", flush=True)
            raise
        failures.append(error)
        return None


def planned(file: str, overrides: list[str]) -> Any:
    """A sweep's plan without an application."""
    from . import blocks, compose, sweep

    path = blocks.find(file)
    with compose.offline(path.parent):
        composer = compose.Composer(path.stem)
        ours = [o for o in overrides if not o.lstrip("+~").startswith("hydra")]  # a launcher changes no plan
        return sweep.plan(composer, blocks.blocks_of(composer), ours)


def show_tables(options: argparse.Namespace) -> None:
    from . import tables

    def of(file: str, overrides: list[str]) -> str:
        found = planned(file, overrides)
        return tables.render(found.store, [(job.who.id, job.who.run) for job in found.rows], file, options.partial)

    if options.readme or options.check:
        from .configs import ROOT

        tables.markers(ROOT / "README.md", of, write=options.readme)
    elif options.file is None:
        raise UserError("tables needs the name of a sweep: synthweight tables demo")
    else:
        print(of(options.file, options.overrides))
