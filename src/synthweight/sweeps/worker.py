"""A planned sweep, carried out beside any number of other workers: each run is taken by one of them."""

import os
import time
from typing import Any

from ..errors import CheckerFailedError, LockLostError, RunLockedError, SweepFailedError, UserError, disk_full, first_line
from ..llm import classify
from ..runs import locks
from .plan import Job, Options, Planned, for_its_checker, last_line, recall

JOBS = "SYNTHWEIGHT_JOBS"  # the environment carries the number of jobs to a launcher's processes
WORKER = "SYNTHWEIGHT_WORKER"  # and the number of a worker, with the process that started it: 2:4711
POLL = 1.0  # seconds between two looks at what others are at


class Sweep:
    """The work of one worker: what is left of a plan, and what failed of it."""

    def __init__(self, planned: Planned, launcher: Any, options: Options) -> None:
        self.planned, self.launcher, self.options = planned, launcher, options
        self.store = planned.store
        self.left = planned.ahead
        self.failed: dict[str, tuple[Job, str]] = {}  # run id → its job and the last line of its traceback
        self.results: list[Any] = []
        self.told: set[str] = set()
        self.kinds: dict[str, tuple[str, str | None]] = {}  # run id → what it may be trained together with
        self.number = 0
        self.monitor = locks.LockMonitor()
        # one process takes one run at a time and looks again; an engine gets all that may begin, as one batch
        self.one_by_one = one_by_one(launcher)

    def run(self) -> list[Any]:
        """Until nothing is left. Raises SweepFailedError, or what stops all runs alike: a full disk, Ctrl-C."""
        total = len(self.left)
        while self.left and not self.stopped():
            batch, others = self.choose()
            if batch:
                self.launch(batch)
            elif others:  # all that is left is somebody's, or waits for it
                for job, holder in others:
                    line = f"{job}: locked by {holder}; waiting"
                    self.say_once(line)
                time.sleep(POLL)
        if self.failed:
            raise SweepFailedError(self.report(total))
        return self.results

    def stopped(self) -> bool:
        """Whether to begin nothing more: a failure with --fail-fast, or the process that started this worker is gone."""
        parent = os.environ.get(WORKER, "").partition(":")[2]
        if parent and os.getppid() != int(parent):
            print("the command that started this worker is gone: nothing more is begun", flush=True)
            return True
        if not self.options.fail_fast:
            return False
        return bool(self.failed) or any(self.failure(job) for job in self.left)

    def choose(self) -> tuple[list[Job], list[tuple[Job, str]]]:
        """What may begin now, and what others hold; drops what is done or has failed since."""
        batch: list[Job] = []
        others: list[tuple[Job, str]] = []
        kept: list[Job] = []
        waiting = {job.who.id for job in self.left}
        for job in self.left:
            if batch and self.one_by_one and not self.alike(batch[0], job):
                kept.append(job)
                continue
            run_id = job.who.id
            if self.store.exists(run_id):
                self.number += 1
                continue
            if self.blocked(job) or self.noticed(job):
                continue
            kept.append(job)
            folder = self.store.run_folder(run_id)
            if self.monitor.is_locked(folder):
                others.append((job, str(locks.lock_holder(folder) or "another process")))
            elif not any(c.id in waiting and not self.store.exists(c.id) for c in job.who.checkers.values()):
                batch.append(job)
        self.left = kept
        return batch, others

    def say_once(self, line: str) -> None:
        if line not in self.told:
            self.told.add(line)
            print(line, flush=True)

    def failure(self, job: Job) -> dict[str, Any] | None:
        """What is recorded of a job since it was last to be tried."""
        found = self.store.failure(job.who.id)
        return None if found is None or for_its_checker(found) else found

    def noticed(self, job: Job) -> bool:
        """Whether the job has failed, before this sweep or at another worker's: it is listed, and not tried here."""
        found = self.failure(job)
        if found is not None:
            self.failed[job.who.id] = job, last_line(found)
        return found is not None

    def blocked(self, job: Job) -> bool:
        """Whether a run cannot begin because its checker failed; it is recorded as failed because of it."""
        for role, checker in job.who.checkers.items():
            if checker.id in self.failed:
                error = CheckerFailedError(f"its {role} checker {checker.id} failed: {self.failed[checker.id][1]}")
                self.store.record_failure(job.who.id, error, "sweep")
                self.failed[job.who.id] = job, f"{CheckerFailedError.__name__}: {error}"
                return True
        return False

    def launch(self, batch: list[Job]) -> None:
        """Few-shot classifications here, trainings by Hydra's launcher."""
        for job in batch:
            if job.prompt:
                self.ask(job)
        trainings = [job for job in batch if not job.prompt]
        if not trainings:
            return
        if self.one_by_one and len(trainings) > 1:
            self.together(trainings)
        else:
            self.by_launcher(trainings)

    def by_launcher(self, trainings: list[Job]) -> None:
        try:
            returns = self.launcher.launch([job.overrides for job in trainings], initial_job_idx=self.number)
        except Exception as error:  # the engine's own: a process that the system killed, a queue that refuses
            if disk_full(error):
                raise
            for job in trainings:
                if not self.store.exists(job.who.id) and not self.noticed(job):
                    self.store.record_failure(job.who.id, error, "sweep")
                    self.give_up(job, error)
            return
        self.results += returns
        for job, returned in zip(trainings, returns, strict=True):
            if returned.status.name == "FAILED":
                self.give_up(job, returned._return_value)
            elif getattr(returned.return_value, "status", None) == "taken":
                time.sleep(locks.POLL)
            else:
                self.finish(job)

    def alike(self, job: Job, other: Job) -> bool:
        """Whether two jobs are seeds of one configuration that are to be trained at once."""
        if not self.options.stack_seeds or job.prompt or other.prompt:
            return False
        for each in (job, other):  # once a run: every choice compares all that is left
            if each.who.id not in self.kinds:
                from ..runs import run  # torch: a sweep with nothing to do goes without

                self.kinds[each.who.id] = run.stacked_with(each.who.run)
        (one, why), (two, _) = self.kinds[job.who.id], self.kinds[other.who.id]
        if one == two and why is not None:
            self.say_once(f"seeds are trained one after the other: {why}")
        return one == two and why is None

    def together(self, jobs: list[Job]) -> None:
        """Seeds of one configuration, in this process: Hydra's launcher knows of single jobs alone. One by one if that fails."""
        try:
            from ..runs import run

            outcomes = run.train_together([job.who.run for job in jobs], progress(self.number))
        except LockLostError:
            return
        except Exception as error:
            if disk_full(error):
                raise
            why = f"{type(error).__name__}: {first_line(error)}"
            print(f"{len(jobs)} seeds at once failed, one after the other now: {why}", flush=True)
            for job in jobs:
                if not self.store.exists(job.who.id):
                    self.by_launcher([job])
            return
        for job, outcome in zip(jobs, outcomes, strict=True):
            if outcome.status != "taken":
                self.finish(job)

    def ask(self, job: Job) -> None:
        try:
            classify.classify(job.who.run, progress(self.number), wait=False)
            self.finish(job)
        except RunLockedError:
            return
        except Exception as error:
            self.give_up(job, error)

    def finish(self, job: Job) -> None:
        self.number += 1
        self.left = [other for other in self.left if other is not job]

    def give_up(self, job: Job, error: Exception) -> None:
        if disk_full(error):  # the next run would meet it too
            raise error
        self.failed[job.who.id] = job, f"{type(error).__name__}: {first_line(error)}"
        self.finish(job)

    def report(self, total: int) -> str:
        """Every failure with the last line of its traceback and the place of the whole."""
        before = sum(job.failure is not None for job, _ in self.failed.values())
        rest = f"; {len(self.left)} were not begun" if self.left else "; the others are done"
        head = f"{len(self.failed)} of {total} runs failed{rest}"
        if before:
            head += f" ({before} failed before and were not tried: --retry-failed does)"
        if not self.options.listed:
            return head
        lines = [f"  {j}: {why} ({self.store.run_folder(i) / 'failed.json'})" for i, (j, why) in self.failed.items()]
        return "\n".join([f"{head}:", *lines])


def one_by_one(launcher: Any) -> bool:
    """Whether it is Hydra's own, which runs jobs in this process; Hydra loads its plugins twice: isinstance would not do."""
    return type(launcher).__name__ == "BasicLauncher"


def execute(planned: Planned, launcher: Any, options: Options) -> list[Any]:
    """Launches what is to do; a failure leaves the others running, and all are listed at the end.

    Raises:
        SweepFailedError: at least one run failed, now or before. OSError: the disk is full.
    """
    if options.stack_seeds and not one_by_one(launcher):
        raise UserError("--stack-seeds: stacks are trained by this process itself: leave out hydra/launcher")
    begin(planned, options)
    if not planned.todo:
        print("nothing to do", flush=True)
        return []
    os.environ[JOBS] = str(planned.todo)
    return Sweep(planned, launcher, options).run()


def begin(planned: Planned, options: Options) -> None:
    """Says what there is to do; forgets earlier failures where they are to be tried again."""
    failed = [job for job in planned.ahead if job.failure is not None]
    again = "tried again" if options.retry_failed else "failed before"
    done, n = sum(job.done for job in planned.rows), planned.todo - len(failed)
    if options.retry_failed:
        for job in planned.ahead:
            planned.store.clear_failure(job.who.id)
        recall(planned)
    more = f", {len(failed)} {again}" if failed else ""
    if options.listed:
        print(f"{len(planned.rows)} runs: {done} done, {n} to do{more} (checkers that others need come first)", flush=True)


def progress(number: int | None) -> str:
    """`[3/12] ` for a job of a sweep, with the worker's number where there are several; nothing for a single run."""
    total = os.environ.get(JOBS)
    worker = os.environ.get(WORKER, "").partition(":")[0]
    who = f"worker {worker} " if worker else ""
    return f"{who}[{number + 1}/{total}] " if total and number is not None else ""
