"""One run, top to bottom: identity, checkers, material, tokens, training, row."""

import shlex
import time
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from shutil import copy2, rmtree
from typing import Any

import numpy as np
import pyarrow as pa

from . import checkers, configs, encoders, fit, identity, loggers, provenance
from .checkpoints import Checkpoints
from .configs import Run
from .data import sources
from .data.files import beside
from .data.records import Example
from .data.tokens import Tokens, tokenize
from .epochs import Epoch
from .errors import CheckerFailed, LeaseLost, Taken, disk_full
from .identity import Identity, describe
from .store import FORMAT, Store, lines


@dataclass(frozen=True)
class Outcome:
    """What became of a run: "done" before, "trained" now, or "taken": another process is at it."""

    id: str
    status: str


def train(run: Run, progress: str = "", wait: bool = True) -> Outcome:
    """Trains one run, its missing checkers first, and places its row; does nothing where the row is already.

    Args:
        progress: printed before every line, such as "[3/12] ". wait: for a process that is at this run; else "taken".

    Raises:
        UserError: bad input, before anything is trained. Any other failure is recorded in failed.json and raised; a full
            disk is only raised: it is no fault of the run.
    """
    who = identity.of(run)
    store = Store(run.paths.outputs)
    name = progress + describe(run)
    if store.exists(who.id):
        print(f"{name}: done already ({who.id}), nothing to do", flush=True)
        return Outcome(who.id, "done")
    if encoders.fetch([run.model, *(checker.run.model for checker in who.checkers.values())]):
        return train(run, progress, wait)  # by the hash of what came
    fit.require_device(run.trainer.accelerator, run.trainer.devices)
    loggers.require(run.logger.name)
    store.prepare()
    try:
        with store.lease(who.id, wait):
            if store.exists(who.id):
                return Outcome(who.id, "done")
            try:
                for role, checker in who.checkers.items():
                    try:
                        ensure(store, checker, progress)
                    except Exception as error:
                        if isinstance(error, LeaseLost) or disk_full(error):
                            raise
                        what = f"{describe(run)}: its {role} checker {checker.id} failed: {error}"
                        raise CheckerFailed(what) from error
                work(store, who, name, row=True)
                store.clear_failure(who.id)
            except Exception as error:
                if not isinstance(error, LeaseLost) and not disk_full(error):
                    store.fail(who.id, error, shlex.join(provenance.command()))
                raise
    except (Taken, LeaseLost):
        if wait:
            raise
        return Outcome(who.id, "taken")
    return Outcome(who.id, "trained")


def ensure(store: Store, checker: Identity, progress: str) -> None:
    """The checker's row exists afterwards."""
    if not store.exists(checker.id):
        train(checker.run, progress)


def work(store: Store, who: Identity, name: str, row: bool) -> None:
    """The training itself. With `row` False only the model is written: a checker's row that stands is left alone."""
    logger, folder = who.run.logger, store.run_folder(who.id)
    watching = loggers.opened(logger, who.id, folder, public(who.run)) if row else nullcontext(loggers.Watch())
    with watching as watch:
        carry_out(store, who, name, row, watch)


def carry_out(store: Store, who: Identity, name: str, row: bool, watch: loggers.Watch) -> None:
    """The training, its model and its row."""
    run = who.run
    started, clock = provenance.now(), Stopwatch()
    material = sources.build(run)
    folder, encoder = encoders.locate(run.model), encoders.fingerprint(run.model)

    def tokens(examples: tuple[Example, ...]) -> Tokens:
        return tokenize(folder, encoder, examples, run.optim.max_length, Path(run.paths.cache))

    series = {"selection": material.selection} if material.selection else {}
    series["test"] = material.test
    tokenized = {key: (tokens(examples), material.targets(examples)) for key, examples in series.items()}
    train = (tokens(material.train), material.targets(material.train))
    seconds = {"prepare": clock.lap()}
    dev = (tokens(material.dev), material.targets(material.dev)) if run.loss.dev else None
    scored = {role: checkers.scores(who, role, material, partial(ask, store)) for role in sorted(run.loss.needs)}
    scores = {role: values for role, (values, _) in scored.items()}
    seconds["scores"] = clock.lap()

    keep_model = run.loss.name == "ce" or run.trainer.keep_model

    def report(number: int, epoch: Epoch) -> None:
        chosen = "".join(f" · {key} {m['accuracy'] or 0:.1%}" for key, m in epoch.metrics.items() if key == "selection")
        done = f"epoch {number + 1}/{run.epochs} · loss {epoch.train_loss:.4f}{chosen}"
        print(f"{name}: {done} · {clock.so_far():.0f} s", flush=True)
        store.note(who.id, f"epoch {number + 1}/{run.epochs}")
        watch.epoch(number + 1, epoch)

    def say(line: str) -> None:
        print(f"{name}: {line} · {clock.so_far():.0f} s", flush=True)

    training = fit.Training(
        folder, run.loss, run.weighting, run.optim, run.trainer, run.epochs, run.seed, material.labels, train, scores,
        tokenized, run.selection.split != "last", keep_model, dev,
    )  # fmt: skip
    saved = checkpoints_of(store, who)
    fitted = fit.fit(training, report, say, watch.lightning, saved.folder, saved)
    spent = fitted.seconds
    seconds |= {"weights": spent.weights, "train": spent.train, "evaluate": spent.evaluate}
    clock.lap()
    own = None
    if keep_model:
        own = fit.log_probs(fitted.network, train[0], len(material.labels), run.trainer)
        save_model(fitted.network, folder, store.run_folder(who.id) / "model")
        seconds["evaluate"] += clock.lap()
    if not row:
        saved.clear()
        return
    record = {
        "format": FORMAT,
        "id": who.id,
        "settings_id": who.settings_id,
        "version": identity.VERSION,
        "kind": "train",
        "config": public(run),
        "labels": list(material.labels),
        "data": material.record,
        "checkers": dict.fromkeys(("quality", "diversity")) | {key: checker.id for key, checker in who.checkers.items()},
        "temperatures": {role: scored[role][1] if role in scored else None for role in ("quality", "diversity")},
        "epochs": [
            {
                "epoch": i + 1,
                "train_loss": e.train_loss,
                "selection": e.metrics.get("selection"),
                "test": e.metrics["test"],
            }
            for i, e in enumerate(fitted.epochs)
        ],
        "selected_epoch": fitted.selected + 1,
        "guard_hits": fitted.guard_hits,
        "seconds": {key: round(value, 3) for key, value in seconds.items()},
        "provenance": provenance.code()
        | fit.machine(run.trainer)
        | {"argv": provenance.command(), "started": started, "finished": provenance.now()},
    }
    store.place(record, table(material, fitted, own if run.loss.name == "ce" else None))
    saved.clear()
    watch.done(partial(store.row, who.id))
    test = fitted.epochs[fitted.selected].metrics["test"]
    print(f"{name}: test accuracy {test['accuracy']:.1%}, macro F1 {test['macro_f1']:.1%} ({who.id})", flush=True)


def checkpoints_of(store: Store, who: Identity) -> Checkpoints:
    """Where a killed run left off. Other libraries, or another number of devices, give other digits: then it starts anew."""
    libraries = {key: provenance.code()["versions"][key] for key in ("torch", "transformers", "pytorch-lightning")}
    identity = {"format": FORMAT, "id": who.id, "devices": who.run.trainer.devices} | libraries
    return Checkpoints(store.run_folder(who.id), identity, lambda: store.guard(who.id))


def ask(store: Store, checker: Identity, examples: tuple[Example, ...]) -> np.ndarray:
    """log p of all classes by a checker whose row stands; trains it again where its model is gone."""

    def rebuild() -> None:
        work(store, checker, f"{describe(checker.run)} (again, its model is gone)", row=False)

    with store.lease(checker.id):  # several runs may want the same scores at once
        return checkers.log_probs(store, checker.run, checker.id, examples, rebuild)


def public(run: Run) -> dict[str, Any]:
    """The resolved configuration without paths and logger."""
    return {key: value for key, value in configs.as_dict(run).items() if key not in ("paths", "logger")}


def table(material: sources.Material, fitted: fit.Fitted, own: np.ndarray | None) -> pa.Table:
    """The row's Parquet: test at the selected epoch, then the training set at every epoch."""
    chosen = fitted.epochs[fitted.selected]
    parts = [lines("test", material.test, material.labels, fitted.selected + 1, chosen.log_probs["test"], None)]
    for i, epoch in enumerate(fitted.epochs):
        scored = own if i == fitted.selected else None
        parts.append(lines("train", material.train, material.labels, i + 1, scored, epoch.weights))
    return pa.concat_tables(parts)


def save_model(network: Any, encoder: Path, folder: Path) -> None:
    """A Hugging Face folder with the tokenizer, whole or not at all."""
    part = beside(folder)
    try:
        network.save_pretrained(part)
        for name in encoders.TOKENIZER_FILES:
            if (encoder / name).is_file():
                copy2(encoder / name, part / name)
        rmtree(folder, ignore_errors=True)
        part.rename(folder)
    finally:
        rmtree(part, ignore_errors=True)  # of a disk that was full, half a model


class Stopwatch:
    """Seconds since the last lap, and in all."""

    def __init__(self) -> None:
        self.start = self.last = time.perf_counter()

    def lap(self) -> float:
        now = time.perf_counter()
        elapsed, self.last = now - self.last, now
        return elapsed

    def so_far(self) -> float:
        return time.perf_counter() - self.start
