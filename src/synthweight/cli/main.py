"""The command `synthweight`. Imports nothing heavy before it is needed: --help answers at once."""

import argparse
import errno
import os
import shlex
import sys
from pathlib import Path
from typing import Any

from ..errors import SweepFailedError, UserError, disk_full, first_line, require
from . import workbench
from .parser import parse, stop

MAKE_ROOM = "make room, or name other folders by paths.outputs= and paths.cache=; the same command goes on where it stopped"


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
        sweep_failed = isinstance(error, SweepFailedError)  # the one message with several lines: one a failed run
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


def dispatch(options: argparse.Namespace) -> None:
    if not (Path(__file__).resolve().parents[3] / "conf" / "config.yaml").is_file():
        raise UserError("conf/ is not beside the package: use synthweight from its clone, installed with pip install -e .")
    if options.command in workbench.COMMANDS:
        workbench.run(options)
    elif options.command == "train":
        hydra_app((["--multirun"] if options.multirun else []) + options.overrides)
    elif options.command == "sweep":
        run_sweep(options)
    elif options.command == "plan":
        from ..sweeps import status

        print(status.plan_text(planned(options.file, options.overrides)))
    elif options.command == "status":
        from ..sweeps import status

        if options.file is None or "=" in options.file:  # of the whole folder; the first word is an override
            view = status.of_folder([*filter(None, [options.file]), *options.overrides])
        else:
            view = status.of_sweep(planned(options.file, options.overrides))
        status.watch(view, options.once)
    elif options.command in ("generate", "prompt"):
        budget = [f"budget={options.budget}"] if getattr(options, "budget", None) is not None else []
        ask_llm(options.command, [*options.overrides, *budget])
    elif options.command == "wandb":
        to_wandb(options)
    elif options.command == "figures":
        draw_figures(options)
    else:
        show_tables(options)


def hydra_app(arguments: list[str]) -> None:
    """Hands over to Hydra, which composes and calls `task` once a job."""
    import hydra
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    from ..config import bind, overrides, schema

    bind.register()
    kept, sys.argv = sys.argv, ["synthweight", *arguments]
    failures.clear()
    try:
        hydra.main(version_base="1.3", config_path=str(schema.CONF), config_name="config")(task)()
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(overrides.explain(error)) from error
    finally:
        sys.argv = kept
    if failures:
        raise failures[0]


def run_sweep(options: argparse.Namespace) -> None:
    """One worker in this process, or several in processes of their own."""
    from ..sweeps import grid, processes
    from ..sweeps.plan import Options
    from ..sweeps.worker import WORKER

    require(options.workers >= 1, "--workers", "at least 1", options.workers)
    file = grid.find(options.file)
    treat = Options(options.retry_failed, options.fail_fast, listed=WORKER not in os.environ, stack_seeds=options.stack_seeds)
    if options.workers > 1:
        processes.run(planned(str(file), options.overrides, to_train=True), options.workers, treat, str(file), options.overrides)
        return
    treat.hand_over()
    hydra_app([f"--config-dir={file.parent}", f"--config-name={file.stem}", *grid.set_aside(options.overrides)])


def ask_llm(command: str, overrides: list[str]) -> None:
    """Composes from the command's own root configuration, and hands over."""
    from ..config import compose, schema

    with compose.offline(schema.CONF):
        composer = compose.Composer(command)
        if command == "generate":
            from ..llm import generate

            generate.generate(composer.generate(overrides))
        else:
            from ..llm import classify

            classify.classify(composer.prompt(overrides))


failures: list[Exception] = []  # of a single run: Hydra would print a line of its own before it raised


def task(config: Any) -> Any:
    """One job of Hydra's: bind, train. In a sweep, a run that another process is at is left to it."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    from ..config import bind, overrides
    from ..runs import run
    from ..sweeps import worker

    here = HydraConfig.get()
    many = here.mode == RunMode.MULTIRUN
    label = worker.progress(here.job.num if many else None)
    try:
        overrides.refuse(list(here.overrides.task))
        settings = bind.bind(config)
        file = here.job.config_name  # Hydra's own record of it, which reaches the processes of every launcher
        settings.logger.group = settings.logger.group or ("train" if file == "config" else file)
        return run.train(settings, label, wait=not many)
    except Exception as error:
        if many:  # the sweeper lists it at the end; the others go on
            print(f"{label}failed: {type(error).__name__}: {first_line(error)}", flush=True)
            raise
        failures.append(error)
        return None


def to_wandb(options: argparse.Namespace) -> None:
    """Finished rows, or the dashboard, to W&B."""
    file, overrides = options.file, options.overrides
    if file is not None and "=" in file:  # without a sweep the first word is an override
        file, overrides = None, [file, *overrides]
    if options.action == "dashboard":
        from . import wandb_dashboard

        wandb_dashboard.dashboard(file, overrides, options.json)
        return
    if file is None or options.json:
        raise UserError("wandb sync needs the name of a sweep, and has no --json: synthweight wandb sync demo")
    from . import wandb_sync

    wandb_sync.sync(file, overrides)


def planned(file: str, overrides: list[str], to_train: bool = False) -> Any:
    """A sweep's plan without an application."""
    from ..reporting.publish import sweep_report

    return sweep_report(file, *overrides, to_train=to_train).plan


def show_tables(options: argparse.Namespace) -> None:
    """Prints the table of a sweep, or writes or checks all that is published."""
    from ..config.schema import ROOT
    from ..reporting import publish, render

    if options.write or options.check:
        if options.file is not None or options.partial:
            raise UserError("tables --write and --check take no name: they do all that outputs/published.yaml lists")
        published = publish.Published.read(ROOT / "outputs")
        if options.write:
            print(*published.write_tables(), sep="\n")
        else:
            published.check()
            print(f"{published}: equal to the rows")
    elif options.file is None:
        raise UserError("tables needs the name of a sweep: synthweight tables demo")
    else:
        table = publish.make_table(options.file, options.overrides, options.partial)
        print(render.FORMATS[options.format](table, None), end="")


def draw_figures(options: argparse.Namespace) -> None:
    """Draws the figures of a sweep, or all that are published, and prints their files."""
    from ..config.schema import ROOT
    from ..reporting import plotting, publish

    if options.file is None:
        if options.overrides or options.partial:
            raise UserError("figures without a name draws all that outputs/published.yaml lists, and takes no option")
        for stem, command, chart in publish.Published.read(ROOT / "outputs").charts():
            print(*plotting.write_figure(chart, ROOT / "outputs" / "figures", stem, command), sep="\n", flush=True)
        return
    name = Path(options.file).stem
    folder, charts = publish.make_charts(options.file, options.overrides, name, options.partial)
    for stem, chart in charts.items():
        command = shlex.join(["synthweight", "figures", options.file, *options.overrides])
        print(*plotting.write_figure(chart, folder / "figures", stem, command), sep="\n", flush=True)
