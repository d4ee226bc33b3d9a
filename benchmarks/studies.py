"""A study of Optuna's in a journal file, at which any number of workers may be, and any of them may die.

Every write happens in a worker's turn, and a worker holds a lock while it lives: so a trial that is running
and whose worker is gone can be told, and is taken up again.
"""

import contextlib
import json
import os
import secrets
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from shutil import rmtree
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import FrozenTrial, Trial, TrialState

from synthweight.errors import RunLockedError, UserError, first_line
from synthweight.runs import identity, locks

NAME = "synthweight"
# seconds between two looks: at a turn that another worker has, at trials that others are at
TURN, WAIT = (0.05, 1.0)
HINT = "restore it, or name another file: rows stand, so a search begun anew trains none of its runs twice"


class Study:
    """One worker at a study that maximises a value over a space.

    Raises:
        UserError: the file cannot be written, is damaged, or is of a study whose fixed settings are others.
    """

    def __init__(
        self, path: Path, space: dict[str, BaseDistribution], fixed: dict[str, Any], seed: int
    ) -> None:
        self.space, self.seed = space, seed
        self.token = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
        self.monitor = locks.LockMonitor()
        self.workers = path.with_name(f"{path.name}.workers")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.open("ab").close()
            self.workers.mkdir(exist_ok=True)
        except OSError as error:
            raise UserError(
                f"--study {path}: cannot be written ({error.strerror}): name another file"
            ) from error
        with self.turn():
            self.study = load(path, fixed)

    @contextlib.contextmanager
    def turn(self) -> Iterator[None]:
        """One worker at a time. A dead one's turn is free."""
        with contextlib.ExitStack() as stack:
            while True:
                try:
                    stack.enter_context(
                        locks.acquire(self.workers / "turn", wait=False, monitor=self.monitor)
                    )
                    break
                except RunLockedError:
                    time.sleep(TURN)
            yield

    @contextlib.contextmanager
    def work(self) -> Iterator[None]:
        """Within it, this worker is alive to the others."""
        try:
            with locks.acquire(self.workers / self.token):
                yield
        finally:
            rmtree(self.workers / self.token, ignore_errors=True)

    def all(self) -> list[FrozenTrial]:
        """Every trial as it is now, by number."""
        return self.study.get_trials(deepcopy=False)

    def complete(self) -> list[FrozenTrial]:
        """The trials that have a value."""
        return [t for t in self.all() if t.state == TrialState.COMPLETE]

    def failed(self) -> list[FrozenTrial]:
        """The trials that failed and were not begun again. One that a dead worker left is none of them."""
        there = self.all()
        again = {t.user_attrs.get("again") for t in there}
        return [
            t
            for t in there
            if t.state == TrialState.FAIL and "error" in t.user_attrs and t.number not in again
        ]

    def retry_failed(self) -> None:
        """Queues the failed trials, with the parameters that they had."""
        with self.turn():
            for trial in self.failed():
                self.study.enqueue_trial(trial.params, user_attrs={"again": trial.number})

    def begin(self, trials: int) -> Trial | None:
        """The next trial, or None where so many are finished.

        Waits while the last ones are at other workers.
        """
        told = False
        while True:
            with self.turn():
                self.take_up()
                running = sum(t.state == TrialState.RUNNING for t in self.all())
                if len(self.complete()) + len(self.failed()) + running < trials:
                    return self.ask()
            if not running:
                return None
            if not told:
                print(f"other workers are at the last {running}; waiting", flush=True)
                told = True
            time.sleep(WAIT)

    def take_up(self) -> None:
        """Queues what dead workers left."""
        again = {t.user_attrs.get("again") for t in self.all()}
        for trial in self.all():
            worker = self.workers / trial.user_attrs.get("worker", "nobody")
            if trial.state != TrialState.RUNNING or self.monitor.is_locked(worker):
                continue
            params = {**trial.system_attrs.get("fixed_params", {}), **trial.params}
            # else it died while it was drawn, or here
            if params.keys() == self.space.keys() and trial.number not in again:
                print(f"trial {trial.number} was left unfinished: it is taken up again", flush=True)
                self.study.enqueue_trial(params, user_attrs={"again": trial.number})
            self.study.tell(trial.number, state=TrialState.FAIL)
            rmtree(worker, ignore_errors=True)

    def ask(self) -> Trial:
        """A queued trial, or a new one: drawn from what is known and a seed of its own, as in a search never
        interrupted.

        A sampler seeded once a process would, in each process, propose again what the first one did.
        """
        drawn = sum("again" not in t.user_attrs and t.params.keys() == self.space.keys() for t in self.all())
        own = int(np.random.SeedSequence([self.seed, drawn]).generate_state(1)[0])
        self.study.sampler = optuna.samplers.TPESampler(seed=own)
        trial = self.study.ask(self.space)
        trial.set_user_attr("worker", self.token)
        return trial

    def tell(self, trial: Trial, value: float | None, said: dict[str, Any]) -> None:
        """Ends a trial with its value and what else is known of it; None: it failed."""
        with self.turn():
            if self.all()[trial.number].state.is_finished():
                return  # this process was asleep, and another has taken its trial up
            for key, what in said.items():
                trial.set_user_attr(key, what)
            self.study.tell(trial, value, state=TrialState.FAIL if value is None else None)


def load(path: Path, fixed: dict[str, Any]) -> optuna.Study:
    """The study of a journal, or a new one. Raises UserError where it is damaged, or of other settings."""
    for number, line in enumerate(path.read_bytes().splitlines(keepends=True), 1):
        with contextlib.suppress(ValueError):
            if line.endswith(b"\n") and isinstance(json.loads(line), dict):
                continue
        raise UserError(f"{path}:{number}: damaged, or no journal of Optuna's: {HINT}")
    try:
        # its other lock, a symlink, waits for ever where a killed process left one and the path is relative
        journal = JournalFileBackend(str(path), JournalFileOpenLock(str(path)))
        storage = optuna.storages.JournalStorage(journal)
    except (ValueError, KeyError, TypeError, AttributeError, AssertionError) as error:
        what = f"{type(error).__name__}: {first_line(error)}"
        raise UserError(f"{path}: damaged, or no journal of Optuna's ({what}): {HINT}") from error
    study = optuna.create_study(storage=storage, study_name=NAME, direction="maximize", load_if_exists=True)
    if not study.get_trials(deepcopy=False) and "settings" not in study.user_attrs:
        study.set_user_attr("settings", fixed)
        study.set_user_attr("digest", identity.digest(fixed))
    there = study.user_attrs.get("settings", {})
    if identity.digest(there) != identity.digest(fixed):
        old, new = flat(there), flat(fixed)
        differ = [
            f"{k} is {old.get(k)} there, {new.get(k)} here"
            for k in sorted({*old, *new})
            if old.get(k) != new.get(k)
        ]
        more = f"; and {len(differ) - 3} more" if len(differ) > 3 else ""
        raise UserError(
            f"{path}: a study of other settings ({'; '.join(differ[:3])}{more}): name another file"
        )
    return study


def flat(node: dict[str, Any], above: str = "") -> dict[str, Any]:
    """A tree as dotted keys."""
    out: dict[str, Any] = {}
    for key, value in node.items():
        out |= flat(value, f"{above}{key}.") if isinstance(value, dict) else {f"{above}{key}": value}
    return out
