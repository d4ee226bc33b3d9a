"""`synthweight sweep`, `plan` and `status`: many runs, and what has become of them."""

import argparse

from ..errors import require


def run(options: argparse.Namespace) -> None:
    """One of the three commands."""
    {"sweep": run_sweep_command, "plan": show_plan, "status": show_status}[options.command](options)


def run_sweep_command(options: argparse.Namespace) -> None:
    """One worker in this process, or several in processes of their own."""
    from ..sweeps.grid import find_sweep
    from ..sweeps.plan import open_sweep
    from ..sweeps.processes import run_workers
    from .hydra_app import hydra_app

    require(options.workers >= 1, "--workers", "at least 1", options.workers)
    file = find_sweep(options.file)
    flags = [
        f"hydra.sweeper.{key}=true"
        for key in ("retry_failed", "fail_fast", "stack_seeds")
        if getattr(options, key)
    ]
    arguments = [*options.overrides, *flags]
    if options.workers > 1:
        opened = open_sweep(str(file), arguments, fetch=True)
        # done here, once
        kept = [word for word in arguments if not word.startswith("hydra.sweeper.retry_failed=")]
        quiet = ["--quiet"] * options.quiet
        run_workers(opened.plan, options.workers, opened.options, str(file), [*quiet, *kept])
    else:
        hydra_app(file.stem, arguments, file.parent)


def show_plan(options: argparse.Namespace) -> None:
    """What a sweep would run, and how long that may take."""
    from ..sweeps.plan import open_sweep
    from ..sweeps.status import plan_text

    print(plan_text(open_sweep(options.file, options.overrides).plan))


def show_status(options: argparse.Namespace) -> None:
    """A live table of a sweep, or of the whole folder of outputs."""
    from ..sweeps import status
    from ..sweeps.plan import open_sweep

    if options.file is None or "=" in options.file:  # of the whole folder; the first word is an override
        view = status.view_of_folder([*filter(None, [options.file]), *options.overrides])
    else:
        view = status.view_of_sweep(open_sweep(options.file, options.overrides).plan)
    status.watch(view, options.once)
