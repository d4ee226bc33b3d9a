"""One run, top to bottom: identity, checkers, training, row; or seeds of one configuration at once."""

import dataclasses
import logging
import shlex
from collections.abc import Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from functools import partial

import numpy as np

from ..config.schema import Run
from ..data.examples import Examples
from ..errors import CheckerFailedError, LockLostError, RunLockedError, disk_full
from ..models import pretrained
from ..tracking import loggers
from ..training import devices, seed_ensemble
from ..training.checkpoint import Checkpoints
from ..training.trainer import fit
from . import checker_scores, preflight, provenance
from .identity import Identity, describe, identify
from .record import finish, prepare, public, run_reporter
from .store import FORMAT, Store

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outcome:
    """What became of a run: "done" before, "trained" now, or "taken": another process is at it."""

    id: str
    status: str


def train(run: Run, progress: str = "", wait: bool = True) -> Outcome:
    """Trains one run, its missing checkers first, and places its row; does nothing where the row is already.

    Args:
        progress: printed before every line, such as "[3/12] ". wait: for a process that is at this run; else
            "taken".

    Raises:
        UserError: bad input, before anything is trained. Any other failure is recorded in failed.json and
            raised; a full disk is only raised: it is no fault of the run.
    """
    who = identify(run)
    store = Store(run.paths.outputs)
    name = progress + describe(run)
    if store.exists(who.id):
        logger.info("%s: done already (%s), nothing to do", name, who.id)
        return Outcome(who.id, "done")
    if pretrained.fetch([run.model, *(checker.run.model for checker in who.checkers.values())]):
        return train(run, progress, wait)  # by the hash of what came
    devices.require_device(run.trainer.accelerator, run.trainer.devices)
    loggers.require_logger(run.logger.name)
    for each in (run, *(checker.run for checker in who.checkers.values())):
        preflight.require_fit(each)
    store.prepare()
    try:
        with store.lock(who.id, wait):
            if store.exists(who.id):
                return Outcome(who.id, "done")
            try:
                train_checkers(store, who, progress)
                work(store, who, name, row=True)
                store.clear_failure(who.id)
            except Exception as error:
                if not isinstance(error, LockLostError) and not disk_full(error):
                    store.record_failure(who.id, error, shlex.join(provenance.command()))
                raise
    except (RunLockedError, LockLostError):
        if wait:
            raise
        return Outcome(who.id, "taken")
    return Outcome(who.id, "trained")


def train_checkers(store: Store, who: Identity, progress: str) -> None:
    """All that a run needs are there afterwards. Raises CheckerFailedError."""
    for role, checker in who.checkers.items():
        try:
            ensure(store, checker, progress)
        except Exception as error:
            if isinstance(error, LockLostError) or disk_full(error):
                raise
            what = f"{describe(who.run)}: its {role} checker {checker.id} failed: {error}"
            raise CheckerFailedError(what) from error


def ensure(store: Store, checker: Identity, progress: str) -> None:
    """The checker's row exists afterwards."""
    if not store.exists(checker.id):
        train(checker.run, progress)


def work(store: Store, who: Identity, name: str, row: bool) -> None:
    """The training itself.

    With `row` False only the model is written: a checker's row that stands is left alone.
    """
    logger, folder = who.run.logger, store.run_folder(who.id)
    watching = (
        loggers.open_logger(logger, who.id, folder, public(who.run))
        if row
        else nullcontext(loggers.RunLogger())
    )
    with watching as watch:
        carry_out(store, who, name, row, watch)


def carry_out(store: Store, who: Identity, name: str, row: bool, watch: loggers.RunLogger) -> None:
    """The training, its model and its row."""
    ready = prepare(who, name, partial(ask, store))
    saved = checkpoints_of(store, who)

    fitted = fit(ready.job, run_reporter(store, ready, watch), saved)
    finish(store, ready, fitted, row, watch)
    saved.clear()


def checkpoints_of(store: Store, who: Identity) -> Checkpoints:
    """Where a killed run left off.

    It starts anew where digits would be others: by libraries, devices, what is taken for bf16.
    """
    libraries = {
        key: provenance.code_version()["versions"][key]
        for key in ("torch", "transformers", "pytorch-lightning")
    }
    trainer = who.run.trainer
    taken = {"device": devices.device(trainer.accelerator).type, "precision": devices.precision(trainer)}
    identity = {"format": FORMAT, "id": who.id, "devices": trainer.devices} | taken | libraries
    return Checkpoints(store.run_folder(who.id), identity, lambda: store.check_lock(who.id))


def ask(store: Store, checker: Identity, examples: Examples) -> np.ndarray:
    """log p of all classes by a checker whose row stands; trains it again where its model is gone."""

    def rebuild() -> None:
        work(store, checker, f"{describe(checker.run)} (again, its model is gone)", row=False)

    with store.lock(checker.id):  # several runs may want the same scores at once
        return checker_scores.log_probs(store, checker.run, checker.id, examples, rebuild)


def train_together(runs: Sequence[Run], progress: str = "") -> list[Outcome]:
    """Trains runs that differ in their seed alone as one stack, their missing checkers first, and places
    their rows.

    Those that are done, or that another process is at, are left out. Begun anew after a stop: a stack keeps
    no checkpoints.

    Raises:
        What `train` raises. Nothing is recorded as failed: whoever asked may train them one after the other.
    """
    whos = [identify(run) for run in runs]
    store = Store(runs[0].paths.outputs)
    devices.require_device(runs[0].trainer.accelerator, runs[0].trainer.devices)
    loggers.require_logger(runs[0].logger.name)
    store.prepare()
    outcomes = {who.id: Outcome(who.id, "done") for who in whos}
    with ExitStack() as held:
        mine: list[Identity] = []
        for who in whos:
            try:
                if not store.exists(who.id):
                    held.enter_context(store.lock(who.id, wait=False))
                    if not store.exists(who.id):
                        mine.append(who)
            except RunLockedError:
                outcomes[who.id] = Outcome(who.id, "taken")
        if len(mine) == 1:  # alone it draws as it always does, and keeps checkpoints
            train_checkers(store, mine[0], progress)
            work(store, mine[0], progress + describe(mine[0].run), row=True)
        elif mine:
            train_stack(store, mine, progress)
        for who in mine:
            store.clear_failure(who.id)
            outcomes[who.id] = Outcome(who.id, "trained")
    return list(outcomes.values())


def train_stack(store: Store, whos: Sequence[Identity], progress: str) -> None:
    """The training itself, of runs that are locked by this process."""
    for who in whos:
        train_checkers(store, who, progress)
    ready = [prepare(who, progress + describe(who.run), partial(ask, store)) for who in whos]
    with ExitStack() as looking:
        members, watches = [], []
        for one in ready:
            logger, folder = one.who.run.logger, store.run_folder(one.who.id)
            watches.append(
                looking.enter_context(loggers.open_logger(logger, one.who.id, folder, public(one.who.run)))
            )
            members.append(seed_ensemble.EnsembleMember(one.job, run_reporter(store, one, watches[-1])))
        for one, fitted, watch in zip(ready, seed_ensemble.fit_seed_ensemble(members), watches, strict=True):
            finish(store, one, fitted, True, watch, stacked=[other.who.run.seed for other in ready])
            checkpoints_of(store, one.who).clear()  # of an earlier attempt, alone


def stacked_with(run: Run) -> tuple[str, str | None]:
    """What the runs that may be trained together have in common, and why this one is none of them (None: it
    is).
    """
    alike = repr(dataclasses.replace(run, seed=0))
    if run.source.fold is not None and run.corruption.active:
        return alike, "a fold of corrupted data has another size for each seed"
    if run.logger.name == "wandb":
        return alike, "logger=wandb looks at one run a process"
    return alike, seed_ensemble.why_not_stacked(run.loss, run.trainer)
