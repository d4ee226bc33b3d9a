"""One run, top to bottom: identity, checkers, data, training, model and row."""

import logging
import shlex
import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from ..config.schema import Run
from ..data.examples import Examples
from ..data.sources import RunData, build_run_data
from ..errors import CheckerFailedError, LockLostError, RunLockedError, disk_full
from ..models import pretrained
from ..tracking import loggers
from ..training import devices
from ..training.checkpoint import Checkpoints
from ..training.history import Epoch
from ..training.job import TokenizedSplit, TrainingJob
from ..training.predict import predict
from ..training.reporter import RunReporter
from ..training.trainer import FitResult, fit
from . import checker_scores, preflight, provenance, record
from .identity import Identity, describe, identify
from .store import FORMAT, Store
from .tokens import tokenize_for

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outcome:
    """What became of a run.

    Args:
        id: of the run.
        status: "done" before, "trained" now, or "locked" by another process.
    """

    id: str
    status: str


def train(run: Run, prefix: str = "", wait: bool = True) -> Outcome:
    """Trains one run, its missing checkers first, and writes its row; does nothing where the row exists.

    Args:
        run: its settings.
        prefix: of every message, such as "[3/12] ".
        wait: whether to wait for a process that has locked this run; otherwise the outcome is "locked".

    Raises:
        UserError: bad input, before anything is trained. Any other failure is recorded in failed.json and
            raised; a full disk is only raised: it is no fault of the run.
    """
    identity = identify(run)
    store = Store(run.paths.outputs)
    name = prefix + describe(run)
    if store.exists(identity.id):
        logger.info("%s: done already (%s), nothing to do", name, identity.id)
        return Outcome(identity.id, "done")
    if pretrained.fetch([run.model, *(checker.run.model for checker in identity.checkers.values())]):
        return train(run, prefix, wait)  # by the hash of what was downloaded
    devices.require_device(run.trainer.accelerator, run.trainer.devices)
    loggers.require_logger(run.logger.name)
    for each in (run, *(checker.run for checker in identity.checkers.values())):
        preflight.require_fit(each)
    store.prepare()
    try:
        with store.lock(identity.id, wait):
            if store.exists(identity.id):
                return Outcome(identity.id, "done")
            try:
                train_checkers(store, identity, prefix)
                fit_run(store, identity, name)
                store.clear_failure(identity.id)
            except Exception as error:
                if not isinstance(error, LockLostError) and not disk_full(error):
                    store.record_failure(identity.id, error, shlex.join(provenance.command()))
                raise
    except (RunLockedError, LockLostError):
        if wait:
            raise
        return Outcome(identity.id, "locked")
    return Outcome(identity.id, "trained")


def train_checkers(store: Store, identity: Identity, prefix: str) -> None:
    """Trains the checkers of a run whose rows are missing.

    Args:
        store: with the rows.
        identity: of the run.
        prefix: of every message.

    Raises:
        CheckerFailedError: one cannot be trained.
    """
    for role, checker in identity.checkers.items():
        if store.exists(checker.id):
            continue
        try:
            train(checker.run, prefix)
        except Exception as error:
            if isinstance(error, LockLostError) or disk_full(error):
                raise
            what = f"{describe(identity.run)}: its {role} checker {checker.id} failed: {error}"
            raise CheckerFailedError(what) from error


def fit_run(store: Store, identity: Identity, name: str, write_row: bool = True) -> None:
    """Trains a run whose checkers are finished, from its last checkpoint where there is one.

    Args:
        store: the row and the model are written to it.
        identity: of the run, which this process has locked.
        name: of the run in messages.
        write_row: False where only the model is missing, and the row stays as it is.
    """
    with open_run_logger(store, identity, write_row) as run_logger:
        prepared = prepare(store, identity, name)
        checkpoints = checkpoints_for(store, identity)
        fitted = fit(prepared.job, StoredRunReporter.of(prepared, store, run_logger), checkpoints)
        finish(store, prepared, fitted, run_logger, write_row)
        checkpoints.clear()


def open_run_logger(
    store: Store, identity: Identity, enabled: bool = True
) -> AbstractContextManager[loggers.RunLogger]:
    """The logger that a run's settings choose, until the block ends; one that logs nothing if not enabled.

    Args:
        store: with the run's folder.
        identity: of the run.
        enabled: whether to log at all.
    """
    if not enabled:
        return nullcontext(loggers.RunLogger())
    run = identity.run
    folder = store.run_folder(identity.id)
    return loggers.open_logger(run.logger, identity.id, folder, record.public_settings(run))


# before the training


class Stopwatch:
    """Measures seconds, lap by lap."""

    def __init__(self) -> None:
        self.start = self.last = time.perf_counter()

    def lap(self) -> float:
        """The seconds since the last lap."""
        now = time.perf_counter()
        elapsed, self.last = now - self.last, now
        return elapsed


@dataclass(frozen=True)
class PreparedRun:
    """A run with all that it is trained on.

    Attributes:
        identity: of the run.
        name: of the run in messages.
        started: when its preparation began, UTC.
        clock: started then.
        data: its examples.
        job: its training.
        temperatures: by which its checkers' scores were calibrated, None where they were not.
        seconds: spent on tokens ("prepare") and on checkers' scores ("scores").
    """

    identity: Identity
    name: str
    started: str
    clock: Stopwatch
    data: RunData
    job: TrainingJob
    temperatures: dict[str, float | None]
    seconds: dict[str, float]


def prepare(store: Store, identity: Identity, name: str) -> PreparedRun:
    """Reads and tokenizes a run's data and scores it by the run's checkers.

    Args:
        store: with the checkers' rows and models.
        identity: of the run.
        name: of the run in messages.
    """
    run = identity.run
    started, clock = provenance.utc_now(), Stopwatch()
    data = build_run_data(run)

    def tokenized(examples: Examples) -> TokenizedSplit:
        return tokenize_for(run, examples), data.targets(examples)

    series = {"selection": tokenized(data.selection)} if data.selection else {}
    series["test"] = tokenized(data.test)
    train_split = tokenized(data.train)
    seconds = {"prepare": clock.lap()}
    dev = tokenized(data.dev) if run.loss.dev else None
    scores: dict[str, np.ndarray] = {}
    temperatures: dict[str, float | None] = dict.fromkeys(("quality", "diversity"))
    for role in sorted(run.loss.needs):
        scores[role], temperatures[role] = score_labels(store, identity, role, data)
    seconds["scores"] = clock.lap()
    job = replace(
        TrainingJob.from_run(run, pretrained.locate(run.model), data.labels, train_split, series),
        dev=dev,
        scores=scores,
        select=run.selection.split != "last",
        keep_state=run.loss.name == "ce" or run.trainer.keep_model,
    )
    return PreparedRun(identity, name, started, clock, data, job, temperatures, seconds)


def score_labels(
    store: Store, identity: Identity, role: str, data: RunData
) -> tuple[np.ndarray, float | None]:
    """log p(y_i|x_i) of the training labels by a run's checkers of one role, and the temperature.

    Args:
        store: with the checkers' rows and models.
        identity: of the run.
        role: "quality" or "diversity".
        data: of the run.

    Returns:
        The scores, [n], and the temperature, None where the role is not calibrated.
    """
    whole = identity.checkers.get(role)
    every = checker_log_probs(store, whole, data.train) if whole else None
    folds = []
    for checker in identity.folds(role):
        left_out = build_run_data(checker.run).held_out_fold
        folds.append((left_out, checker_log_probs(store, checker, left_out)))
    return checker_scores.label_scores(role, data, every, folds, identity.run.checker.calibrated(role))


def checker_log_probs(store: Store, checker: Identity, examples: Examples) -> np.ndarray:
    """log p(y|x_i) of all classes by a checker with a row, [n, classes]; a lost model is trained again.

    Args:
        store: with the checker's row.
        checker: finished.
        examples: to be scored.
    """
    with store.lock(checker.id):  # several runs may need the same scores at once
        known = checker_scores.known_log_probs(store, checker, examples)
        if known is not None:
            return known
        ensure_model(store, checker)
        return checker_scores.compute_log_probs(store, checker, examples)


def ensure_model(store: Store, identity: Identity) -> None:
    """Trains a finished run again where its model is gone, as in a clone with rows alone; the row stays.

    Args:
        store: with the row.
        identity: of the run, which this process has locked.
    """
    if not store.model_folder(identity.id).is_dir():
        fit_run(store, identity, f"{describe(identity.run)} (again, its model is gone)", write_row=False)


def checkpoints_for(store: Store, identity: Identity) -> Checkpoints:
    """The checkpoints of a run, by which it continues after it was killed.

    Those that another library version, device or precision has written are not continued: the digits would
    differ.

    Args:
        store: with the run's folder.
        identity: of the run, which this process has locked.
    """
    versions = provenance.code_version()["versions"]
    trainer = identity.run.trainer
    written_by = {
        "format": FORMAT,
        "id": identity.id,
        "devices": trainer.devices,
        "device": devices.device(trainer.accelerator).type,
        "precision": devices.precision(trainer),
        **{key: versions[key] for key in ("torch", "transformers", "pytorch-lightning")},
    }
    return Checkpoints(store.run_folder(identity.id), written_by, lambda: store.check_lock(identity.id))


# during and after the training


@dataclass(kw_only=True)
class StoredRunReporter(RunReporter):
    """Also writes the epoch to the run's status, and sends its results to the run's logger.

    Args:
        store: with the run's status.
        run_id: of the run.
        run_logger: of the run.
    """

    store: Store
    run_id: str
    run_logger: loggers.RunLogger

    @classmethod
    def of(cls, prepared: PreparedRun, store: Store, run_logger: loggers.RunLogger) -> "StoredRunReporter":
        """The reporter of a run's training."""
        return cls(
            name=prepared.name,
            started=prepared.clock.start,
            loggers=run_logger.lightning,
            store=store,
            run_id=prepared.identity.id,
            run_logger=run_logger,
        )

    def epoch_finished(self, number: int, epochs: int, epoch: Epoch) -> None:
        super().epoch_finished(number, epochs, epoch)
        self.store.set_status(self.run_id, f"epoch {number}/{epochs}")
        self.run_logger.log_epoch(number, epoch)


def finish(
    store: Store,
    prepared: PreparedRun,
    fitted: FitResult,
    run_logger: loggers.RunLogger,
    write_row: bool = True,
    stacked: tuple[int, ...] = (),
) -> None:
    """Saves the model where it is kept, and writes the row.

    Args:
        store: where to.
        prepared: the run.
        fitted: its training.
        run_logger: gets the row.
        write_row: False where only the model was missing.
        stacked: the seeds that were trained at once with this one.
    """
    identity, run, data, job = prepared.identity, prepared.identity.run, prepared.data, prepared.job
    spent = fitted.seconds
    seconds = prepared.seconds | {"weights": spent.weights, "train": spent.train, "evaluate": spent.evaluate}
    prepared.clock.lap()
    train_log_probs = None
    if job.keep_state:
        train_log_probs = predict(fitted.network, job.train[0], len(data.labels), run.trainer)
        record.save_model(fitted.network, job.folder, store.model_folder(identity.id))
        seconds["evaluate"] += prepared.clock.lap()
    if not write_row:
        return
    row = record.describe_run(identity, data) | {
        "temperatures": prepared.temperatures,
        **record.describe_training(fitted),
        "seconds": {key: round(value, 3) for key, value in seconds.items()},
        "provenance": provenance.code_version()
        | devices.machine(run.trainer, fitted.fallbacks, stacked)
        | {"argv": provenance.command(), "started": prepared.started, "finished": provenance.utc_now()},
    }
    store.write_row(row, record.tables(data, fitted, train_log_probs if run.loss.name == "ce" else None))
    run_logger.log_row(partial(store.row, identity.id))
    test = fitted.epochs[fitted.selected].metrics["test"]
    logger.info(
        "%s: test accuracy %.1f%%, macro F1 %.1f%% (%s)",
        prepared.name,
        100 * test["accuracy"],
        100 * test["macro_f1"],
        identity.id,
    )
