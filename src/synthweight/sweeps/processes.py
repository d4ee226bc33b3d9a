"""Several workers on one machine: processes of one sweep, its cores divided among them."""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence

from ..errors import SweepFailedError, UserError
from .plan import Options, Planned, recall
from .worker import WORKER, Sweep, begin

THREADS = "OMP_NUM_THREADS"


def threads_of_each(n: int) -> int:
    """Cores that this process may use, divided by n, at least one. Two torch processes that both take all cores of a
    machine make a run of a minute last more than ten."""
    return max(1, len(os.sched_getaffinity(0)) // n if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1) // n)


def run(planned: Planned, n: int, options: Options, file: str, overrides: Sequence[str]) -> None:
    """Starts n workers, waits for them, lists what failed. A thread count of your own (trainer.threads, OMP_NUM_THREADS)
    stands.

    Raises:
        SweepFailedError: a run failed. UserError: a worker ended before all was done, for a reason that it has printed.
    """
    begin(planned, options)
    if not planned.todo:
        print("nothing to do", flush=True)
        return
    fast = ["--fail-fast"] * options.fail_fast + ["--stack-seeds"] * options.stack_seeds
    command = [sys.executable, "-m", "synthweight", "sweep", file, *fast, *overrides]
    each = {THREADS: str(threads_of_each(n))} | dict(os.environ)
    print(f"{n} workers with {each[THREADS]} threads each", flush=True)
    started = [subprocess.Popen(command, env=each | {WORKER: f"{i + 1}:{os.getpid()}"}) for i in range(n)]
    try:
        codes = [process.wait() for process in started]
    except BaseException:  # Ctrl-C reaches them from the terminal; whoever ends this process alone ends them too
        for process in started:
            process.send_signal(signal.SIGINT)
        for process in started:
            process.wait()
        raise
    recall(planned)
    total = len(planned.ahead)
    rest = Sweep(planned, None, options)
    rest.choose()
    if rest.failed:
        raise SweepFailedError(rest.report(total))
    if rest.left:
        ended = ", ".join(f"worker {i + 1}: {code}" for i, code in enumerate(codes) if code)
        raise UserError(f"{len(rest.left)} of {total} runs are not done (exit codes: {ended}): the same command goes on")
