"""A planned sweep, carried out beside any number of other workers: each run is taken by one of them."""

import logging
import os
import time
from typing import Any

from .. import progress
from ..errors import CheckerFailedError, LockLostError, SweepFailedError, UserError, disk_full, first_line
from ..runs import locks
from .plan import Job, SweepOptions, SweepPlan, is_checker_failure, last_line, load_failures

POLL = 1.0  # seconds between two looks at runs that others have locked
log = logging.getLogger(__name__)


class SweepWorker:
    """The work of one worker: what remains of a plan, and what failed of it.

    Args:
        plan: The sweep.
        launcher: Hydra's launcher.
        options: How to treat failures.
        in_process: Whether the launcher runs jobs in this process: it is given one run at a time and looks
            again. A launcher of processes or of a cluster is given all that may begin.
    """

    def __init__(self, plan: SweepPlan, launcher: Any, options: SweepOptions, in_process: bool) -> None:
        self.plan, self.launcher, self.options, self.in_process = plan, launcher, options, in_process
        self.store = plan.store
        self.remaining = plan.todo
        self.total = len(self.remaining)
        self.failed: dict[str, tuple[Job, str]] = {}  # run id → its job and the last line of its traceback
        self.results: list[Any] = []
        self.messages: set[str] = set()
        self.stacks: dict[str, tuple[str, str | None]] = {}  # run id → what it may be trained together with
        self.finished = 0
        self.monitor = locks.LockMonitor()

    def run(self) -> list[Any]:
        """Works until nothing remains.

        Raises:
            SweepFailedError: At least one run failed, now or before.
            OSError: The disk is full, which no other run would fare better with.
        """
        with progress.progress_bar("runs", self.total) as bar:
            while self.remaining and not self.should_stop():
                ready, locked = self.choose()
                bar.update(self.finished)
                if ready:
                    self.launch(ready)
                elif locked:
                    for job, holder in locked:
                        self.log_once(f"{job}: locked by {holder}; waiting")
                    time.sleep(POLL)
            bar.update(self.finished)
        if self.failed:
            raise SweepFailedError(self.failure_report())
        return self.results

    def should_stop(self) -> bool:
        """Whether to start nothing more: after a failure with fail_fast, or without a parent process."""
        if self.options.parent is not None and os.getppid() != self.options.parent:
            log.warning("the command that started this worker is gone: nothing more is begun")
            return True
        if not self.options.fail_fast:
            return False
        return bool(self.failed) or any(self.failure(job) for job in self.remaining)

    def choose(self) -> tuple[list[Job], list[tuple[Job, str]]]:
        """Drops what is done or has failed since; the rest is ready, locked, or waits for its checkers.

        Returns:
            The jobs that may begin now, and those that other processes have locked, each with its holder.
        """
        ready: list[Job] = []
        locked: list[tuple[Job, str]] = []
        kept: list[Job] = []
        waiting = {job.id for job in self.remaining}
        for job in self.remaining:
            if ready and self.in_process and not self.stackable(ready[0], job):
                kept.append(job)
                continue
            if self.store.exists(job.id):
                self.finished += 1
                continue
            if self.checker_failed(job) or self.has_failed(job):
                self.finished += 1
                continue
            kept.append(job)
            folder = self.store.run_folder(job.id)
            if self.monitor.is_locked(folder):
                locked.append((job, str(locks.lock_holder(folder) or "another process")))
            elif all(c.id not in waiting or self.store.exists(c.id) for c in job.identity.checkers.values()):
                ready.append(job)
        self.remaining = kept
        return ready, locked

    def log_once(self, message: str) -> None:
        """Logs a message that was not logged before."""
        if message not in self.messages:
            self.messages.add(message)
            log.info(message)

    def failure(self, job: Job) -> dict[str, Any] | None:
        """What is recorded of a job since it was last to be tried."""
        found = self.store.failure(job.id)
        return None if found is None or is_checker_failure(found) else found

    def has_failed(self, job: Job) -> bool:
        """Whether the job failed before this sweep or in another worker: it is listed, and not tried here."""
        found = self.failure(job)
        if found is not None:
            self.failed[job.id] = job, last_line(found)
        return found is not None

    def checker_failed(self, job: Job) -> bool:
        """Whether a run cannot begin because its checker failed; it is recorded as failed because of it."""
        for role, checker in job.identity.checkers.items():
            if checker.id in self.failed:
                error = CheckerFailedError(
                    f"its {role} checker {checker.id} failed: {self.failed[checker.id][1]}"
                )
                self.store.record_failure(job.id, error, "sweep")
                self.failed[job.id] = job, f"{CheckerFailedError.__name__}: {error}"
                return True
        return False

    def launch(self, jobs: list[Job]) -> None:
        """Runs jobs by Hydra's launcher; seeds of one configuration, where they are stacked, in this process."""
        if self.in_process and len(jobs) > 1:
            self.train_stack(jobs)
            return
        number = (
            f"hydra.sweeper.total={self.total}"  # for the label of a job's messages, in whichever process
        )
        try:
            returns = self.launcher.launch(
                [[*job.overrides, number] for job in jobs], initial_job_idx=self.finished
            )
        except (
            Exception
        ) as error:  # the launcher's own: a process that the system killed, a queue that refuses
            if disk_full(error):
                raise
            for job in jobs:
                if not self.store.exists(job.id) and not self.has_failed(job):
                    self.store.record_failure(job.id, error, "sweep")
                    self.mark_failed(job, error)
            return
        self.results += returns
        for job, returned in zip(jobs, returns, strict=True):
            if returned.status.name == "FAILED":
                self.mark_failed(job, returned._return_value)
            elif self.store.exists(job.id):
                self.mark_finished(job)
            else:  # another process has locked it
                time.sleep(locks.POLL)

    def stackable(self, one: Job, other: Job) -> bool:
        """Whether two jobs are seeds of one configuration that are to be trained at once.

        Args:
            one: A job.
            other: Another.
        """
        if not self.options.stack_seeds or not one.trains or not other.trains:
            return False
        from ..runs import seed_stack  # torch: a sweep with nothing to do does without

        for job in (one, other):  # once a run: every choice compares all that remains
            if job.id not in self.stacks:
                self.stacks[job.id] = seed_stack.stacked_with(job.identity.run)
        (first, why), (second, _) = self.stacks[one.id], self.stacks[other.id]
        if first == second and why is not None:
            self.log_once(f"seeds are trained one after the other: {why}")
        return first == second and why is None

    def train_stack(self, jobs: list[Job]) -> None:
        """Trains seeds of one configuration in this process, as one stack; one by one if that fails."""
        from ..runs import seed_stack

        label = job_label(self.finished, self.total, self.options.worker)
        try:
            seed_stack.train_together([job.identity.run for job in jobs], label)
        except LockLostError:
            return
        except Exception as error:
            if disk_full(error):
                raise
            log.warning(
                "%d seeds at once failed, one after the other now: %s: %s",
                len(jobs),
                type(error).__name__,
                first_line(error),
            )
            for job in jobs:
                if not self.store.exists(job.id):
                    self.launch([job])
            return
        for job in jobs:
            if self.store.exists(job.id):
                self.mark_finished(job)

    def mark_finished(self, job: Job) -> None:
        """Counts a job and drops it."""
        self.finished += 1
        self.remaining = [other for other in self.remaining if other is not job]

    def mark_failed(self, job: Job, error: Exception) -> None:
        """Records a failure for the list at the end.

        Raises it where the disk is full: the next run would meet it too.

        Args:
            job: That failed.
            error: With its traceback.
        """
        if disk_full(error):
            raise error
        self.failed[job.id] = job, f"{type(error).__name__}: {first_line(error)}"
        self.mark_finished(job)

    def failure_report(self) -> str:
        """Every failure with the last line of its traceback and the file that holds the whole."""
        before = sum(job.failure is not None for job, _ in self.failed.values())
        rest = f"; {len(self.remaining)} were not begun" if self.remaining else "; the others are done"
        head = f"{len(self.failed)} of {self.total} runs failed{rest}"
        if before:
            head += f" ({before} failed before and were not tried: --retry-failed does)"
        recorded = {i for i in self.failed if self.store.failure(i)}
        shown = self.failed
        if self.options.worker is not None:  # the process that started the workers lists what is recorded
            shown = {i: failed for i, failed in self.failed.items() if i not in recorded}
        lines = [
            f"  {job}: {why}" + f" ({self.store.run_folder(i) / 'failed.json'})" * (i in recorded)
            for i, (job, why) in shown.items()
        ]
        return "\n".join([f"{head}:" if lines else head, *lines])


def run_sweep(plan: SweepPlan, launcher: Any, options: SweepOptions, in_process: bool) -> list[Any]:
    """Launches what is to do; a failure leaves the others running, and all are listed at the end.

    Args:
        plan: The sweep.
        launcher: Hydra's launcher.
        options: How to treat failures.
        in_process: Whether the launcher runs jobs in this process.

    Raises:
        SweepFailedError: At least one run failed, now or before.
        UserError: Stacks with a launcher of other processes.
        OSError: The disk is full.
    """
    if options.stack_seeds and not in_process:
        raise UserError("--stack-seeds: stacks are trained by this process itself: leave out hydra/launcher")
    if options.worker is not None:
        progress.enabled = False  # several workers share a terminal: each of them prints lines
    begin_sweep(plan, options)
    return SweepWorker(plan, launcher, options, in_process).run() if plan.todo else []


def begin_sweep(plan: SweepPlan, options: SweepOptions) -> None:
    """Logs what there is to do; forgets earlier failures where they are to be tried again.

    Args:
        plan: The sweep.
        options: How to treat failures.
    """
    failed = [job for job in plan.todo if job.failure is not None]
    todo = len(plan.todo) - len(failed)
    if options.retry_failed:
        for job in plan.todo:
            plan.store.clear_failure(job.id)
        load_failures(plan)
    if options.worker is not None:
        return
    again = f", {len(failed)} {'tried again' if options.retry_failed else 'failed before'}" if failed else ""
    done = sum(job.done for job in plan.rows)
    log.info(
        "%d runs: %d done, %d to do%s (checkers that others need come first)",
        len(plan.rows),
        done,
        todo,
        again,
    )
    if not plan.todo:
        log.info("nothing to do")


def job_label(number: int, total: int | None, worker: int | None) -> str:
    """`[3/12] ` for a job of a sweep, with the worker's number if there are several; "" for a single run.

    Args:
        number: Of the job, from 0.
        total: How many jobs were to do when the sweep began; None for a single run.
        worker: The worker's number.
    """
    prefix = f"worker {worker} " if worker is not None else ""
    return f"{prefix}[{number + 1}/{total}] " if total is not None else ""
