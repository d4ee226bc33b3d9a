"""What a run begins with and ends with: its data, tokens and scores; its model and its row.

The row's JSON is made here, the columns of its Parquet file are `store.SCHEMA`; a few-shot classification makes its row
in `llm/classify.py`.
"""

import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from shutil import copymode, rmtree
from typing import Any

import numpy as np
import pyarrow as pa

from ..atomic_io import part_path
from ..config import schema
from ..config.schema import Run
from ..data import sources
from ..data.examples import Examples
from ..data.tokenization import TokenizedTexts, load_tokenizer, tokenize
from ..models import pretrained
from ..tracking import loggers
from ..training import devices
from ..training.history import Epoch
from ..training.job import TrainingJob
from ..training.predict import predict
from ..training.reporter import RunReporter
from ..training.trainer import FitResult
from . import checker_scores, identity, provenance
from .identity import Identity
from .store import FORMAT, GROUP, PredictionTable, Store

logger = logging.getLogger(__name__)


class Stopwatch:
    """Seconds since the last lap."""

    def __init__(self) -> None:
        self.start = self.last = time.perf_counter()

    def lap(self) -> float:
        now = time.perf_counter()
        elapsed, self.last = now - self.last, now
        return elapsed


@dataclass
class Prepared:
    """A run whose data, tokens and scores are at hand."""

    who: Identity
    name: str
    started: str
    clock: Stopwatch
    material: sources.RunData
    job: TrainingJob
    temperatures: dict[str, float | None]
    seconds: dict[str, float]


def prepare(who: Identity, name: str, ask: checker_scores.Ask) -> Prepared:
    """Brings together what a run is trained on. ask: gives the scores of a checker that has been trained."""
    run = who.run
    started, clock = provenance.utc_now(), Stopwatch()
    material = sources.build_run_data(run)
    folder, encoder = pretrained.locate(run.model), pretrained.fingerprint(run.model)

    def tokens(examples: Examples) -> TokenizedTexts:
        return tokenize(folder, encoder, examples, run.optim.max_length, Path(run.paths.cache))

    series = {"selection": material.selection} if material.selection else {}
    series["test"] = material.test
    tokenized = {key: (tokens(examples), material.targets(examples)) for key, examples in series.items()}
    train = (tokens(material.train), material.targets(material.train))
    seconds = {"prepare": clock.lap()}
    dev = (tokens(material.dev), material.targets(material.dev)) if run.loss.dev else None
    scored = {role: checker_scores.scores(who, role, material, ask) for role in sorted(run.loss.needs)}
    seconds["scores"] = clock.lap()
    job = replace(
        TrainingJob.from_run(run, folder, material.labels, train, tokenized),
        dev=dev,
        scores={role: values for role, (values, _) in scored.items()},
        select=run.selection.split != "last",
        keep_state=run.loss.name == "ce" or run.trainer.keep_model,
    )
    temperatures = {role: scored[role][1] if role in scored else None for role in ("quality", "diversity")}
    return Prepared(who, name, started, clock, material, job, temperatures, seconds)


@dataclass(kw_only=True)
class StoredRunReporter(RunReporter):
    """Also shows the epochs to those who look at the run, and sends them to its loggers.

    Args:
        store: where the run's status is.
        run_id: of the run.
        run_logger: its loggers.
    """

    store: Store
    run_id: str
    run_logger: loggers.RunLogger

    def epoch_finished(self, number: int, epochs: int, epoch: Epoch) -> None:
        super().epoch_finished(number, epochs, epoch)
        self.store.set_status(self.run_id, f"epoch {number}/{epochs}")
        self.run_logger.log_epoch(number, epoch)


def run_reporter(store: Store, ready: Prepared, run_logger: loggers.RunLogger) -> StoredRunReporter:
    """The reporter of a run's training."""
    return StoredRunReporter(
        name=ready.name, started=ready.clock.start, loggers=run_logger.lightning, store=store, run_id=ready.who.id,
        run_logger=run_logger,
    )  # fmt: skip


def finish(
    store: Store,
    ready: Prepared,
    fitted: FitResult,
    row: bool,
    watch: loggers.RunLogger,
    stacked: Sequence[int] = (),
) -> None:
    """Keeps the model where one is kept, and places the row. stacked: the seeds that were trained at once."""
    who, run, material, job = ready.who, ready.who.run, ready.material, ready.job
    spent = fitted.seconds
    seconds = ready.seconds | {"weights": spent.weights, "train": spent.train, "evaluate": spent.evaluate}
    ready.clock.lap()
    own = None
    if job.keep_state:
        own = predict(fitted.network, job.train[0], len(material.labels), run.trainer)
        save_model(fitted.network, job.folder, store.run_folder(who.id) / "model")
        seconds["evaluate"] += ready.clock.lap()
    if not row:
        return
    record = {
        "format": FORMAT,
        "id": who.id,
        "version": identity.VERSION,
        "kind": "train",
        "config": public(run),
        "labels": list(material.labels),
        "data": material.record,
        "checkers": dict.fromkeys(("quality", "diversity"))
        | {key: checker.id for key, checker in who.checkers.items()},
        "temperatures": ready.temperatures,
        "epochs": [
            {
                "epoch": i + 1,
                "train_loss": e.train_loss,
                "selection": e.metrics.get("selection"),
                "test": e.metrics.get("test"),
            }
            for i, e in enumerate(fitted.epochs)
        ],
        "selected_epoch": fitted.selected + 1,
        "guard_hits": fitted.guard_hits,
        "seconds": {key: round(value, 3) for key, value in seconds.items()},
        "provenance": provenance.code_version()
        | devices.machine(run.trainer, fitted.fallbacks, stacked)
        | {"argv": provenance.command(), "started": ready.started, "finished": provenance.utc_now()},
    }
    store.write_row(record, tables(material, fitted, own if run.loss.name == "ce" else None))
    watch.log_row(partial(store.row, who.id))
    test = fitted.epochs[fitted.selected].metrics["test"]
    logger.info(
        "%s: test accuracy %.1f%%, macro F1 %.1f%% (%s)",
        ready.name,
        100 * test["accuracy"],
        100 * test["macro_f1"],
        who.id,
    )


def public(run: Run) -> dict[str, Any]:
    """The resolved configuration without paths and logger."""
    return {key: value for key, value in schema.as_dict(run).items() if key not in ("paths", "logger")}


def tables(material: sources.RunData, fitted: FitResult, own: np.ndarray | None) -> Iterator[pa.Table]:
    """The row's Parquet: test at the selected epoch, then the training set at every epoch, in parts of
    `GROUP` examples.
    """
    chosen = fitted.epochs[fitted.selected]
    yield PredictionTable("test", material.test, material.labels).at_epoch(
        fitted.selected + 1, chosen.log_probs["test"], None
    )
    n, lines = len(material.train), None
    for i, epoch in enumerate(fitted.epochs):
        for start in range(0, n, GROUP):
            part = slice(start, start + GROUP)
            if lines is None or n > GROUP:  # one part alone serves every epoch
                lines = PredictionTable("train", material.train[part], material.labels)
            yield lines.at_epoch(
                i + 1, own[part] if own is not None and i == fitted.selected else None, epoch.weights[part]
            )


def save_model(network: Any, encoder: Path, folder: Path) -> None:
    """Writes a Hugging Face folder with the tokenizer, whole or not at all.

    Args:
        network: trained.
        encoder: the folder that its tokenizer comes from.
        folder: replaced if it exists.
    """
    part = part_path(folder)
    try:
        network.save_pretrained(part)
        load_tokenizer(encoder).save_pretrained(part)
        for path in part.iterdir():  # safetensors makes files that only their owner can read
            copymode(part / "config.json", path)
        rmtree(folder, ignore_errors=True)
        part.rename(folder)
    finally:
        rmtree(part, ignore_errors=True)  # of a disk that was full, half a model
