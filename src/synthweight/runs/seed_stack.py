"""Runs that differ in their seed alone, trained at once as one stack of networks."""

import dataclasses
from collections.abc import Sequence
from contextlib import ExitStack

from ..config.schema import Run
from ..errors import RunLockedError
from ..tracking import loggers
from ..training import devices, seed_ensemble
from .identity import Identity, describe, identify
from .run import (
    Outcome,
    StoredRunReporter,
    checkpoints_for,
    finish,
    fit_run,
    open_run_logger,
    prepare,
    train_checkers,
)
from .store import Store


def train_together(runs: Sequence[Run], prefix: str = "") -> list[Outcome]:
    """Trains runs that differ in their seed alone, their missing checkers first, and writes their rows.

    Those that are done, or that another process has locked, are left out. After a stop they begin from
    scratch: a stack keeps no checkpoints.

    Args:
        runs: at least one.
        prefix: of every message.

    Raises:
        What `run.train` raises. Nothing is recorded as failed, since each may still be trained alone.
    """
    identities = [identify(run) for run in runs]
    store = Store(runs[0].paths.outputs)
    devices.require_device(runs[0].trainer.accelerator, runs[0].trainer.devices)
    loggers.require_logger(runs[0].logger.name)
    store.prepare()
    outcomes = {identity.id: Outcome(identity.id, "done") for identity in identities}
    with ExitStack() as locks:
        todo: list[Identity] = []
        for identity in identities:
            try:
                if not store.exists(identity.id):
                    locks.enter_context(store.lock(identity.id, wait=False))
                    if not store.exists(identity.id):
                        todo.append(identity)
            except RunLockedError:
                outcomes[identity.id] = Outcome(identity.id, "locked")
        for identity in todo:
            train_checkers(store, identity, prefix)
        if len(todo) == 1:  # alone it draws as it always does, and keeps checkpoints
            fit_run(store, todo[0], prefix + describe(todo[0].run))
        elif todo:
            _fit_stack(store, todo, prefix)
        for identity in todo:
            store.clear_failure(identity.id)
            outcomes[identity.id] = Outcome(identity.id, "trained")
    return list(outcomes.values())


def _fit_stack(store: Store, identities: Sequence[Identity], prefix: str) -> None:
    """The training itself, of runs that are locked by this process and whose checkers are finished."""
    prepared = [prepare(store, identity, prefix + describe(identity.run)) for identity in identities]
    seeds = tuple(identity.run.seed for identity in identities)
    with ExitStack() as opened:
        run_loggers = [opened.enter_context(open_run_logger(store, identity)) for identity in identities]
        members = [
            seed_ensemble.EnsembleMember(one.job, StoredRunReporter.of(one, store, run_logger))
            for one, run_logger in zip(prepared, run_loggers, strict=True)
        ]
        results = seed_ensemble.fit_seed_ensemble(members)
        for one, fitted, run_logger in zip(prepared, results, run_loggers, strict=True):
            finish(store, one, fitted, run_logger, stacked=seeds)
            checkpoints_for(store, one.identity).clear()  # of an earlier attempt, alone


def stacked_with(run: Run) -> tuple[str, str | None]:
    """What the runs of one stack have in common, and why this run cannot be in one (None: it can)."""
    common = repr(dataclasses.replace(run, seed=0))
    if run.source.fold is not None and run.corruption.active:
        return common, "a fold of corrupted data has another size for each seed"
    if run.logger.name == "wandb":
        return common, "logger=wandb follows one run per process"
    return common, seed_ensemble.why_not_stacked(run.loss, run.trainer)
