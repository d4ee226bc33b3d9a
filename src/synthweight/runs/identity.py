"""What makes two runs the same run: the settings that it reads, its data, its encoder and its checkers."""

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from ..data import sources
from ..errors import UserError
from ..models import pretrained
from .checker_runs import checker_keys, checker_run
from .plan_cache import PlanCache

if TYPE_CHECKING:
    from ..config.schema import Run

VERSION = 2  # raised by hand when code changes numbers
# settings added under this VERSION, by dotted key, with the value that the code before them had
SINCE: dict[str, Any] = {"source.real_n": None}
R = TypeVar("R")  # the settings that are named: a training's, or a few-shot classification's


@dataclass(frozen=True)
class Identity(Generic[R]):
    """A run's name and what it was made from.

    `checkers` are by role, "quality" and "diversity"; "quality/0", "quality/1", … are those trained on all
    but one fold.
    """

    run: R
    settings: dict[str, Any]  # what the run reads, without version, data and checkers
    data: dict[str, str]  # data hash of each split that it reads
    checkers: "dict[str, Identity]"

    @cached_property
    def id(self) -> str:
        """The first 16 hex digits of SHA-256 over everything."""
        ids = {role: checker.id for role, checker in self.checkers.items()}
        return digest({**self.settings, "data": self.data, "checkers": ids, "version": VERSION})

    def folds(self, role: str) -> "list[Identity]":
        """A role's checkers that were each trained on all but one fold, in the order of the folds."""
        return [checker for key, checker in self.checkers.items() if key.startswith(f"{role}/")]


def identify(run: "Run", cache: PlanCache | None = None) -> Identity:
    """The identity of a run and of its checkers; reads its data and hashes its encoder's files.

    Args:
        run: its settings.
        cache: of data and files that were read for other runs.

    Raises:
        UserError: bad input: what can be found out before anything is trained.
    """
    cache = cache or PlanCache()
    return cache.get(("identity", run), lambda: _identify(run, cache))


def _identify(run: "Run", cache: PlanCache) -> Identity:
    """The identity of a run that the cache does not know."""
    files = run.paths.data, run.paths.cache
    read = run.dataset, run.source, run.corruption, files
    data = cache.get(("pins", *read), lambda: pinned_hashes(run)) if cache.pinned else None
    if data is None:
        cache.get(("data", *_data_settings(run)), lambda: check_data(run))
        data = cache.get(("hashes", *read), lambda: data_hashes(run))
    checkers = {key: identify(checker_run(run, key, cache), cache) for key in checker_keys(run)}
    if (
        "quality" in checkers
        and "diversity" in checkers
        and checkers["quality"].id == checkers["diversity"].id
    ):
        raise UserError(
            f"loss={run.loss.name}: its quality and its diversity checker are one run, so every weight is 1"
        )
    return Identity(
        run=run, settings=without_first_values(settings(run, cache)), data=data, checkers=checkers
    )


def _data_settings(run: "Run") -> tuple[Any, ...]:
    """The settings that decide whether a run's data can be built."""
    mixed, subset = run.source.name == "mixed", run.source.n is not None
    by_seed = run.source.real_n is not None or (subset and (mixed or run.source.fold is not None))
    drawn = run.seed if by_seed else None  # ids in both parts, a fold without a class
    return run.dataset, run.source, run.corruption, run.selection, drawn, run.paths.data, run.paths.cache


def check_data(run: "Run") -> None:
    """Builds a run's data once, so that bad data are refused before anything is trained."""
    sources.build_run_data(run)


def data_hashes(run: "Run") -> dict[str, str]:
    """The data hash of each split that a run reads."""
    data = {name: split.sha256 for name, split in sources.load_splits(run).items()}
    if run.corruption.unrelated:
        data["other"] = sources.load_unrelated(run).sha256
    return data


def pinned_hashes(run: "Run") -> dict[str, str] | None:
    """The pinned hash of each split that a run reads; None where all are on this machine, or one is not pinned."""
    data = sources.pinned_hashes(run)
    if data is not None and run.corruption.unrelated:
        data["other"] = sources.load_unrelated(run).sha256
    return data


def settings(run: "Run", cache: PlanCache) -> dict[str, Any]:
    """The settings that this run reads. Never paths, loggers, devices, threads, workers."""
    optim = dataclasses.asdict(run.optim)
    for key in ("name", "epochs_small_real"):
        del optim[key]
    selection: dict[str, Any] = {"split": run.selection.split}
    if run.selection.split != "dprime":
        selection["kept_out"] = run.selection.kept_out
    dataset: dict[str, Any] = {"name": run.dataset.name}
    if run.source.name != "small_real":  # of which nothing is dropped
        dataset["drop_overlap"] = sources.drops_overlap(run)
    corruption: dict[str, Any] = {}
    if run.corruption.active:
        corruption = {
            "corruption": {
                key: getattr(run.corruption, key) for key in ("swapped", "duplicated", "unrelated")
            }
        }
        if run.corruption.unrelated:
            corruption["corruption"]["other"] = sources.unrelated_benchmark(run)
    return corruption | {
        "dataset": dataset,
        "source": {
            key: getattr(run.source, key) for key in ("name", "variant", "n", "folds", "fold", "real_n")
        },
        "loss": dataclasses.asdict(run.loss),
        "weighting": dataclasses.asdict(run.weighting),
        "calibrated": [role for role in sorted(run.loss.needs) if run.checker.calibrated(role)],
        "encoder": cache.get(("encoder", run.model), lambda: pretrained.fingerprint(run.model)),
        "optim": {**optim, "epochs": run.epochs},
        "selection": selection,
        "precision": run.trainer.precision,
        "padding": run.trainer.padding,
        "batching": run.trainer.batching,
        "test": run.trainer.test,
        "compile": run.trainer.compile,
        "seed": run.seed,
    }


def digest(settings: dict[str, Any]) -> str:
    """The first 16 hex digits of SHA-256 of the sorted compact JSON."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True, separators=(",", ":")).encode()).hexdigest()[
        :16
    ]


def without_first_values(settings: dict[str, Any], since: dict[str, Any] = SINCE) -> dict[str, Any]:
    """The settings less those of `since` that still have their first value."""
    out: dict[str, Any] = json.loads(json.dumps(settings))
    for dotted, first in since.items():
        *parents, key = dotted.split(".")
        node: Any = out
        for parent in parents:
            node = node.get(parent, {}) if isinstance(node, dict) else {}
        if isinstance(node, dict) and key in node and node[key] == first:
            del node[key]
    return out


def describe(run: "Run") -> str:
    """A run in a few words."""
    less = f" less fold {run.source.fold} of {run.source.folds}" if run.source.fold is not None else ""
    return f"{run.dataset.name} {run.source.name}{less} {run.loss.name} {run.model.name} seed {run.seed}"
