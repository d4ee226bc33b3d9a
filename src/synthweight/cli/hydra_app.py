"""`synthweight train`, `generate` and `prompt`: Hydra composes the settings and calls `task` once a job."""

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from ..errors import RunLockedError, UserError, first_line
from . import logs

if TYPE_CHECKING:
    from ..config.bind import Settings

# a command's primary configuration in conf/
ROOTS = {"train": "config", "generate": "generate", "prompt": "prompt"}
log = logging.getLogger(__name__)
failures: list[Exception] = []  # of a single run: Hydra would print a line of its own before it raised


def run(options: argparse.Namespace) -> None:
    """One of the three commands. Everything after it is Hydra's: overrides and flags in any order."""
    hydra_app(ROOTS[options.command], options.arguments)


def hydra_app(config_name: str, arguments: Sequence[str], folder: Path | None = None) -> None:
    """Hand over to Hydra.

    Args:
        config_name: the primary configuration, unless the arguments name another.
        arguments: overrides and Hydra's own flags.
        folder: where the primary configuration is, if not in conf/.

    Raises:
        UserError: whatever Hydra, OmegaConf or a range refuses, in one line.
    """
    import hydra
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException
    from yaml.reader import ReaderError

    from ..config import overrides, schema

    folder = folder or schema.CONF
    checked = check_flags([*overrides.searchpath(folder), *arguments])
    kept, sys.argv = sys.argv, ["synthweight", *checked]
    root = logging.getLogger()
    # Hydra may set up others, for --info or by its job_logging
    handlers, level = (list(root.handlers), root.level)
    failures.clear()
    if any(word in ("--info", "-i") for word in checked):
        logs.remove()
    try:
        hydra.main(version_base="1.3", config_path=str(folder), config_name=config_name)(task)()
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(overrides.explain_hydra_error(error)) from error
    except (UnicodeDecodeError, ReaderError, RecursionError) as error:  # they name no file
        what = f"a configuration file is not to be read ({first_line(error)})"
        raise UserError(f"{what}: it must be YAML in UTF-8, and no part of itself") from error
    finally:
        sys.argv = kept
        root.handlers[:] = handlers
        root.setLevel(level)
    if failures:
        raise failures[0]


def check_flags(arguments: Sequence[str]) -> list[str]:
    """Hydra's flags first, then the overrides: Hydra itself does not take them mixed.

    Raises:
        UserError: an unknown flag, or flags that exclude each other.
    """
    from hydra._internal.utils import get_args_parser

    from ..config.overrides import parse

    parser = get_args_parser()

    def refuse(message: str) -> NoReturn:
        raise UserError(f"{message} (see synthweight train --hydra-help)")

    parser.error = refuse  # type: ignore[method-assign]
    parsed, rest = parser.parse_known_args(list(arguments))
    unknown = [word for word in rest if word.startswith("-")]
    if unknown:
        refuse(f"unrecognized arguments: {' '.join(unknown)}")
    if parsed.experimental_rerun is not None:
        refuse("--experimental-rerun reads a pickle, which this program never does: give the overrides")
    if parsed.resolve and not (parsed.cfg or parsed.help):
        refuse("--resolve goes with --cfg or --help")
    if parsed.package and not parsed.cfg:
        refuse("--package goes with --cfg")
    chosen = [f"--{name}" for name in ("run", "multirun", "cfg", "info") if getattr(parsed, name)]
    if len(chosen) + parsed.shell_completion > 1:
        refuse(f"{' and '.join(chosen)} exclude each other")
    positional = [*parsed.overrides, *rest]
    flags, left = [], list(positional)
    for word in arguments:
        if left and word == left[0]:
            left.pop(0)
        else:
            flags.append(word)
    typed = positional if parsed.shell_completion else [str(o.input_line) for o in parse(positional)]
    return [*flags, *typed]


def task(config: Any) -> Any:
    """One job of Hydra's: bind and run. In a sweep, a run that another process has locked is left to it."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode
    from omegaconf import OmegaConf

    from ..config import bind, overrides
    from ..config.schema import Run
    from ..sweeps.worker import job_label

    logs.configure_process()
    job = HydraConfig.get()
    many = job.mode == RunMode.MULTIRUN
    # another sweeper has none
    total, worker = (OmegaConf.select(job.sweeper, key) for key in ("total", "worker"))
    label = job_label(job.job.num, total, worker) if many else ""
    try:
        overrides.refuse(list(job.overrides.task))
        settings = bind.bind(config)
        if isinstance(settings, Run):
            # Hydra's own record of it, which reaches the processes of every launcher
            file = job.job.config_name
            settings.logger.group = settings.logger.group or ("train" if file == "config" else file)
        return start(settings, label, wait=not many)
    except Exception as error:
        if many:  # the sweeper lists it at the end; the others go on
            log.error("%sfailed: %s: %s", label, type(error).__name__, first_line(error))
            raise
        failures.append(error)
        return None


def start(settings: "Settings", label: str, wait: bool) -> Any:
    """Trains, classifies or generates: what the settings are of.

    Args:
        settings: Of one run.
        label: Before each of its messages.
        wait: For a process that has locked the run; else it is left to that.
    """
    from ..config.llm_schema import Generate
    from ..config.schema import Run

    if isinstance(settings, Run):
        from ..runs import run as runs

        return runs.train(settings, label, wait)
    if isinstance(settings, Generate):
        from ..llm import generate

        return generate.generate(settings)
    from ..llm import classify

    try:
        return classify.classify(settings, label, wait)
    except RunLockedError:
        return None
