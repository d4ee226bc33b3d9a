"""Several workers on one machine: processes of one sweep, its cores divided among them."""

import logging
import os
import subprocess
import sys
import time
from collections.abc import Sequence

from ..errors import SweepFailedError, UserError
from .plan import SweepOptions, SweepPlan, load_failures
from .worker import SweepWorker, begin_sweep

THREADS = "OMP_NUM_THREADS"
GRACE = 1.5  # seconds that workers may take to end by themselves
log = logging.getLogger(__name__)


def threads_of_each(n: int) -> int:
    """Cores that this process may use, divided by n, at least one.

    Two torch processes that both take all cores of a machine make a run of a minute last more than ten.
    """
    return max(
        1,
        len(os.sched_getaffinity(0)) // n if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1) // n,
    )


def run_workers(plan: SweepPlan, n: int, options: SweepOptions, file: str, arguments: Sequence[str]) -> None:
    """Starts n workers, waits for them, lists what failed.

    A thread count of your own (OMP_NUM_THREADS) stays.

    Args:
        plan: The sweep.
        n: How many workers.
        options: How to treat failures.
        file: The sweep's file.
        arguments: What each worker's command line has besides.

    Raises:
        SweepFailedError: A run failed.
        UserError: A worker ended before all was done, for a reason that it has printed.
    """
    begin_sweep(plan, options)
    if not plan.todo:
        return
    command = [
        sys.executable,
        "-m",
        "synthweight",
        "sweep",
        file,
        *arguments,
        f"hydra.sweeper.parent={os.getpid()}",
    ]
    environment = {THREADS: str(threads_of_each(n))} | dict(os.environ)
    log.info("%d workers with %s threads each", n, environment[THREADS])
    workers = [
        subprocess.Popen([*command, f"hydra.sweeper.worker={i + 1}"], env=environment) for i in range(n)
    ]
    try:
        codes = [process.wait() for process in workers]
    except BaseException:  # Ctrl-C reaches them from the terminal; what ends this process alone ends them too
        end = time.monotonic() + GRACE
        try:
            while any(process.poll() is None for process in workers) and time.monotonic() < end:
                time.sleep(0.05)
        finally:
            for process in workers:
                process.terminate()  # not SIGINT: a shell makes what it starts in the background ignore it
            for process in workers:
                process.wait()
        raise
    load_failures(plan)
    rest = SweepWorker(plan, None, options, in_process=False)
    rest.choose()
    if rest.failed:
        raise SweepFailedError(rest.failure_report())
    if rest.remaining:
        ended = ", ".join(f"worker {i + 1}: {code}" for i, code in enumerate(codes) if code)
        raise UserError(
            f"{len(rest.remaining)} of {rest.total} runs are not done (exit codes: {ended}): the same command goes on"
        )
