"""The command `synthweight`. Imports nothing heavy before it is needed: --help answers at once."""

import errno
import io
import os
import shlex
import signal
import sys
from importlib import import_module
from pathlib import Path
from types import FrameType
from typing import NoReturn

from .. import progress
from ..errors import SweepFailedError, UserError, disk_full, first_line
from . import logs
from .parser import parse, stop

MAKE_ROOM = "make room, or name other folders by paths.outputs= and paths.cache=; the same command goes on where it stopped"
# commands that print no result: their messages go to standard output
TALKING = ("train", "sweep", "generate", "prompt")
COMMAND = "SYNTHWEIGHT_COMMAND"  # runs/provenance.py reads it
FULL_ERROR = "HYDRA_FULL_ERROR"  # Hydra's own variable for a traceback


def interrupt(number: int, _frame: FrameType | None) -> NoReturn:
    """The handler of SIGTERM, as of a scheduler: ends as Ctrl-C does, and lets no second signal disturb that."""
    signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def main(arguments: list[str] | None = None) -> None:
    """Runs a command and exits: 0 done, 1 a run failed, 2 bad input, 130 interrupted (Ctrl-C or SIGTERM).

    One line for an error.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):  # a terminal or a name may be of another encoding than UTF-8
        sys.stdout.reconfigure(errors="backslashreplace")
    typed = list(sys.argv[1:] if arguments is None else arguments)
    quiet = "--quiet" in typed
    options = parse([word for word in typed if word != "--quiet"])
    options.quiet = quiet
    logs.configure(quiet, to_stdout=options.command in TALKING)
    progress.enabled = not quiet
    traceback = os.environ.get(FULL_ERROR) == "1"
    before = signal.getsignal(signal.SIGTERM)
    signal.signal(signal.SIGTERM, interrupt)
    os.environ[FULL_ERROR] = "1"  # errors are raised, not printed by Hydra
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    started_here = COMMAND not in os.environ  # a worker of a sweep keeps the command that was typed
    os.environ.setdefault(COMMAND, shlex.join(["synthweight", *typed]))
    try:
        if not (Path(__file__).resolve().parents[3] / "conf" / "config.yaml").is_file():
            raise UserError(
                "conf/ is not beside the package: use synthweight from its clone, installed with pip install -e ."
            )
        import_module(f".{options.module}", __package__).run(options)
    except UserError as error:
        # the one message with several lines: one a failed run
        sweep_failed = isinstance(error, SweepFailedError)
        stop(str(error) if sweep_failed else first_line(error), 1 if sweep_failed else 2)
    except KeyboardInterrupt:
        stop("interrupted; nothing half-written is left: the same command goes on where it stopped", 130)
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
        if traceback:
            raise
        stop(
            f"{type(error).__name__}: {first_line(error)} ({FULL_ERROR}=1 shows where; a run's is in its failed.json)",
            1,
        )
    finally:
        signal.signal(signal.SIGTERM, before)
        if started_here:
            os.environ.pop(COMMAND, None)
        if not traceback:
            os.environ.pop(FULL_ERROR, None)
