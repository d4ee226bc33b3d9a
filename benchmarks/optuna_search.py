"""Chooses optim.lr and the number of epochs on D_P' with Optuna's TPE. The test set is never read for it.

    python benchmarks/optuna_search.py --study outputs/optuna/ce.journal --trials 20 dataset=product_reviews loss=ce

A trial is one run a seed, trained by the project itself: a row like any other, named by its settings, so that
none is trained twice. The study is a journal file of Optuna's; killed, the same command goes on, and any
number of processes may work at one file. docs/tuning.md has the rest.
"""

import argparse
import contextlib
import copy
import dataclasses
import io
import os
import re
import shlex
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import fmean
from typing import Any, TextIO

from synthweight.cli import logs
from synthweight.cli.main import MAKE_ROOM
from synthweight.cli.parser import Parser, stop
from synthweight.config import compose
from synthweight.config.overrides import literal, parse
from synthweight.config.schema import CONF, Run
from synthweight.errors import LockLostError, SweepFailedError, UserError, disk_full, first_line, require
from synthweight.runs import identity, run
from synthweight.runs.identity import identify
from synthweight.runs.provenance import COMMAND
from synthweight.runs.store import Store
from synthweight.training import devices

try:
    import optuna
    from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution
    from optuna.trial import Trial
    from studies import Study
except ModuleNotFoundError as missing:
    stop(f"{missing.name} is not installed: pip install -e .[tuning]", 2)

# macro F1 unless told: by accuracy each run has chosen its epoch already, and on few texts of unequal classes
# it is won by answering the most frequent one
METRICS = {"macro_f1": "macro F1", "accuracy": "accuracy"}
TEST = re.compile(r"test accuracy \S+, macro F1 \S+")  # the end of a run's last line


@dataclass(frozen=True)
class Task:
    """What is searched and what is fixed. Raises UserError for bad settings, before anything is trained."""

    overrides: tuple[str, ...]
    lr: tuple[float, float]
    epochs: tuple[int, int]
    seeds: int
    metric: str

    def __post_init__(self) -> None:
        require(0 < self.lr[0] <= self.lr[1] < 1, "--lr", "LOW HIGH with 0 < LOW <= HIGH < 1", self.lr)
        require(
            1 <= self.epochs[0] <= self.epochs[1], "--epochs", "LOW HIGH with 1 <= LOW <= HIGH", self.epochs
        )
        require(self.seeds >= 1, "--seeds", "at least 1", self.seeds)
        for override in parse(list(self.overrides)):
            if override.key_or_group in self.space:
                raise UserError(
                    f"{override.input_line}: that is what is searched: give its bounds by --lr, --epochs"
                )
        split, checker = self.base.selection.split, self.base.checker.quality
        if split == "last":
            raise UserError(
                "selection=last leaves nothing on D_P' to choose by: use selection=holdout or selection=dprime"
            )
        learns = self.base.loss.dev or ("quality" in self.base.loss.needs and checker.source == "small_real")
        if split == "dprime" and learns:  # small_real and mixed are refused by Run
            raise UserError(
                f"loss={self.base.loss.name} learns from D_P', which is no measure of it then: use selection=holdout"
            )

    @cached_property
    def base(self) -> Run:
        """The run as the overrides have it."""
        with compose.offline(CONF):
            return compose.Composer("config").run(list(self.overrides))

    @cached_property
    def space(self) -> dict[str, BaseDistribution]:
        """The keys that are searched. D_P' as training set has an epoch count of its own."""
        key = "optim.epochs_small_real" if self.base.source.name == "small_real" else "optim.epochs"
        return {"optim.lr": FloatDistribution(*self.lr, log=True), key: IntDistribution(*self.epochs)}

    @cached_property
    def series(self) -> str:
        return "D_P'" if self.base.selection.split == "dprime" else "the held-out part of D_P'"

    def words(self, params: dict[str, Any]) -> list[str]:
        """A point as overrides."""
        return [f"{key}={literal(params[key])}" for key in self.space]

    def runs(self, params: dict[str, Any]) -> list[Run]:
        """The runs of a point: one a seed, from the settings' own seed on."""
        with compose.offline(CONF):
            first = compose.Composer("config").run([*self.overrides, *self.words(params)])
        return [dataclasses.replace(first, seed=first.seed + i) for i in range(self.seeds)]

    def fixed(self) -> dict[str, Any]:
        """What all trials of a study share. Reads the data and hashes the encoder. Raises UserError."""
        low = self.runs(dict(zip(self.space, (self.lr[0], self.epochs[0]), strict=True)))
        who = identify(low[0])
        settings = copy.deepcopy(who.settings)
        for key in ("lr", "epochs"):
            del settings["optim"][key]
        del settings["seed"]
        checkers = {role: checker.id for role, checker in who.checkers.items()}
        bounds = dict(zip(self.space, (list(self.lr), list(self.epochs)), strict=True))
        search = {"metric": self.metric, "seeds": [r.seed for r in low], "bounds": bounds}
        return {
            **settings,
            "data": who.data,
            "checkers": checkers,
            "version": identity.VERSION,
            "search": search,
        }


def score(row: dict[str, Any], metric: str) -> float:
    """The selection series' metric at the row's selected epoch, a fraction 0–1.

    Nothing else of the row is read.
    """
    found = row["epochs"][row["selected_epoch"] - 1]["selection"][metric]
    if found is None:
        raise UserError(f"{metric} on the selection series is not a number")
    return float(found)


class WithoutTest(io.TextIOBase):
    """Standard output less what a run says of its test set: who tunes is not to see it."""

    def __init__(self, out: TextIO) -> None:
        self.out = out

    def write(self, text: str) -> int:
        self.out.write(TEST.sub("row written", text))
        return len(text)

    def flush(self) -> None:
        self.out.flush()


def attempt(task: Task, study: Study, trial: Trial) -> None:
    """Trains what a trial lacks, and tells its value or why there is none.

    Raises:
        LockLostError, or a full disk's error: no fault of the trial, which the same command takes up again.
    """
    name = f"trial {trial.number}: {' '.join(task.words(trial.params))}"
    print(name, flush=True)
    said: dict[str, Any] = {"runs": [], "values": []}
    try:
        for job in task.runs(trial.params):
            said["runs"].append(identify(job).id)
            with contextlib.redirect_stdout(WithoutTest(sys.stdout)):
                run.train(job)
            said["values"].append(score(Store(job.paths.outputs).row(said["runs"][-1]), task.metric))
    except Exception as error:
        if isinstance(error, LockLostError) or disk_full(error):
            raise
        said["error"] = f"{type(error).__name__}: {first_line(error)}"
        print(f"{name}: failed: {said['error']}", flush=True)
        study.tell(trial, None, said)
    else:
        value = fmean(said["values"])
        print(f"{name}: {METRICS[task.metric]} {value:.1%} on {task.series}", flush=True)
        study.tell(trial, value, said)


def report(task: Task, study: Study) -> str:
    """The best trial as overrides to paste, and what its value is worth."""
    complete, failed = study.complete(), study.failed()
    counted = f"{len(complete)} trials have a value, {len(failed)} failed"
    if not complete:
        return counted
    best = max(complete, key=lambda t: (t.value or 0.0, -t.number))
    seeds = f"mean of {task.seeds} seeds" if task.seeds > 1 else "one seed"
    return (
        f"{counted}; best is trial {best.number}: {METRICS[task.metric]} {best.value:.1%} on {task.series} ({seeds}; "
        f"{', '.join(best.user_attrs['runs'])})\n"
        f"{' '.join(task.words(best.params))}\n"
        f"That number is optimistic: lr, epochs and each run's best epoch were chosen by the same texts, {task.series}. "
        "Test was not looked at."
    )


def parse_words(typed: list[str]) -> argparse.Namespace:
    """Options and overrides in any order."""
    top = Parser(
        prog="optuna_search.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    top.add_argument(
        "--study", type=Path, required=True, metavar="FILE", help="Optuna's journal: begun, or gone on with"
    )
    top.add_argument(
        "--trials", type=int, default=20, metavar="N", help="so many in all, those of the file included (20)"
    )
    top.add_argument(
        "--seeds", type=int, default=1, metavar="K", help="runs a trial, from seed= on; their mean counts (1)"
    )
    top.add_argument(
        "--lr",
        type=float,
        nargs=2,
        default=(1e-5, 1e-3),
        metavar=("LOW", "HIGH"),
        help="(1e-5 1e-3), drawn log-uniformly",
    )
    top.add_argument(
        "--epochs", type=int, nargs=2, default=(1, 8), metavar=("LOW", "HIGH"), help="(1 8), both included"
    )
    top.add_argument(
        "--metric", choices=METRICS, default="macro_f1", help="on D_P' at the run's selected epoch (macro_f1)"
    )
    top.add_argument("--sampler-seed", type=int, default=0, metavar="S", help="of Optuna's TPE (0)")
    top.add_argument("--retry-failed", action="store_true", help="try again what failed before")
    top.add_argument(
        "overrides", nargs="*", metavar="key=value", help="the settings that stay, as of synthweight train"
    )
    return top.parse_intermixed_args(typed)


def search(options: argparse.Namespace) -> None:
    """Until there are as many trials as are wanted.

    Raises SweepFailedError where some of them failed, listing them.
    """
    require(options.trials >= 1, "--trials", "at least 1", options.trials)
    require(options.sampler_seed >= 0, "--sampler-seed", "at least 0", options.sampler_seed)
    task = Task(
        tuple(options.overrides), tuple(options.lr), tuple(options.epochs), options.seeds, options.metric
    )
    # what would be every trial's failure is refused before the first
    devices.require_device(task.base.trainer.accelerator)
    Store(task.base.paths.outputs).prepare()
    study = Study(options.study, task.space, task.fixed(), options.sampler_seed)
    with study.work():
        if options.retry_failed:
            study.retry_failed()
        there = len(study.complete()) + len(study.failed())
        print(f"{options.study}: {there} of {options.trials} trials are finished", flush=True)
        while (trial := study.begin(options.trials)) is not None:
            attempt(task, study, trial)
    print(report(task, study), flush=True)
    if failed := study.failed():
        lines = [
            f"  trial {t.number} ({' '.join(task.words(t.params))}): {t.user_attrs['error']}" for t in failed
        ]
        head = f"{len(failed)} of {len(failed) + len(study.complete())} trials failed (--retry-failed tries them again):"
        raise SweepFailedError("\n".join([head, *lines]))


def main(typed: list[str]) -> None:
    """Exits with 0 done, 1 a trial failed, 2 bad input, 130 interrupted."""
    options = parse_words(typed)
    logs.configure()
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ[COMMAND] = shlex.join(["python", "benchmarks/optuna_search.py", *typed])
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        search(options)
    except SweepFailedError as error:
        stop(str(error), 1)
    except UserError as error:
        stop(first_line(error), 2)
    except KeyboardInterrupt:
        stop("interrupted; every finished trial is kept: the same command goes on where it stopped", 130)
    except Exception as error:
        if not disk_full(error):
            raise
        stop(f"{first_line(error)}: {MAKE_ROOM}", 1)


if __name__ == "__main__":
    main(sys.argv[1:])
