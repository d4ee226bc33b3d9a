"""What makes two runs the same run: the settings that it reads, its data, its encoder and its checkers."""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import yaml

from ..config import bind, schema
from ..data import sources
from ..errors import UserError
from ..losses import LOSSES, PLAIN
from ..models import pretrained

if TYPE_CHECKING:
    from ..config.schema import Diversity, Quality, Run

VERSION = 1  # raised by hand when code changes numbers
buildable: set[str] = set()  # materials that this process has built once
DEFAULTS = Path(__file__).with_name("identity_defaults.yaml")
memory: list[dict[str, Any]] = []  # of `planning`
V = TypeVar("V")
R = TypeVar("R")  # the settings that are named: a training's, or a few-shot classification's


@dataclass(frozen=True)
class Identity(Generic[R]):
    """A run's name and what it was made from.

    `checkers` are by role, "quality" and "diversity"; "quality/0", "quality/1", … are those trained on all but one fold.
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

    @cached_property
    def settings_id(self) -> str:
        """The same without version and data hashes, its checkers by their settings_id."""
        ids = {role: checker.settings_id for role, checker in self.checkers.items()}
        return digest({**self.settings, "checkers": ids})


@contextmanager
def planning() -> Iterator[None]:
    """Within it, data and encoders are taken to stay as they are: looked at once, not once for each of thousands of runs."""
    memory.append({})
    try:
        yield
    finally:
        memory.pop()


def once(key: Any, compute: Callable[[], V]) -> V:
    """What `compute` gives; within `planning`, what it gave the first time for this key."""
    if not memory:
        return compute()
    name = repr(key)
    if name not in memory[-1]:
        memory[-1][name] = compute()
    return memory[-1][name]


def of(run: "Run") -> Identity:
    """The identity of a run; reads its data and hashes its encoder's files. Raises UserError for bad input."""
    return once(("identity", run), lambda: _of(run))


def _of(run: "Run") -> Identity:
    once(("length", run.model, run.optim.max_length), lambda: pretrained.check_length(run.model, run.optim.max_length))
    files = run.paths.data, run.paths.cache
    by_seed = run.source.n is not None and (run.source.name == "mixed" or run.source.fold is not None)
    drawn = run.seed if by_seed else None  # the refusals that a seed decides: ids in both parts, a fold without a class
    material = repr((run.dataset, run.source, run.corruption, run.selection, drawn, files))
    if material not in buildable:  # what only the data's content can refuse is refused here, before anything is trained
        sources.build(run)
        buildable.add(material)
    data = once(("data", run.dataset, run.source, run.corruption, files), lambda: data_hashes(run))
    found = {key: of(derive(run, key)) for key in checkers_of(run)}
    if "quality" in found and "diversity" in found and found["quality"].id == found["diversity"].id:
        raise UserError(f"loss={run.loss.name}: its quality and its diversity checker are one run, so every weight is 1")
    return Identity(
        run=run,
        settings=without_defaults(settings(run)),
        data=data,
        checkers=found,
    )


def data_hashes(run: "Run") -> dict[str, str]:
    """The data hash of each split that a run reads."""
    data = {name: split.sha256 for name, split in sources.load_splits(run).items()}
    if run.corruption.unrelated:
        data["other"] = sources.unrelated(run).sha256
    return data


def settings(run: "Run") -> dict[str, Any]:
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
    harm: dict[str, Any] = {}
    if run.corruption.active:
        harm = {"corruption": {key: getattr(run.corruption, key) for key in ("swapped", "duplicated", "unrelated")}}
        if run.corruption.unrelated:
            harm["corruption"]["other"] = sources.other_of(run)
    return harm | {
        "dataset": dataset,
        "source": {key: getattr(run.source, key) for key in ("name", "variant", "n", "folds", "fold")},
        "loss": dataclasses.asdict(run.loss),
        "weighting": dataclasses.asdict(run.weighting),
        "calibrated": [role for role in sorted(run.loss.needs) if run.checker.calibrated(role)],
        "encoder": once(("encoder", run.model), lambda: pretrained.fingerprint(run.model)),
        "optim": {**optim, "epochs": run.epochs},
        "selection": selection,
        "precision": run.trainer.precision,
        "packing": run.trainer.packing,
        "shapes": run.trainer.shapes if run.trainer.packing else "fine",
        "group_by_length": run.trainer.group_by_length,
        "stratify": run.trainer.stratify,
        "compile": run.trainer.compile,
        "score_precision": run.trainer.score_precision if run.loss.needs or run.loss.name == "ce" else "32",  # who scores
        "seed": run.seed,
    }


def checkers_of(run: "Run") -> list[str]:
    """The keys of `Identity.checkers`: a role, where one run is trained on all of its data, and its folds, where it has any."""
    keys: list[str] = []
    for role in sorted(run.loss.needs):
        keys += [] if run.checker.crossed(role) else [role]
        keys += [f"{role}/{fold}" for fold in range(run.checker.folds(role))]
    return keys


def derive(run: "Run", key: str) -> "Run":
    """The run that a checker is, by role: plain cross-entropy, whatever the run does to its weights.

    "quality": `loss=ce source=small_real selection.split=last` with the classifier's seed, less what the run holds out.
    "diversity": the run itself with `loss=ce`, so that the CE baseline and IMP's diversity checker are one training.
    "quality/2", "diversity/2": the same, trained on all but fold 2.
    """
    role, _, fold = key.partition("/")
    checker = _whole(run, role)
    if fold:
        part = dataclasses.replace(checker.source, folds=run.checker.folds(role), fold=int(fold))
        checker = dataclasses.replace(checker, source=part)
    return checker


def _whole(run: "Run", role: str) -> "Run":
    run = dataclasses.replace(run, loss=LOSSES["ce"](name="ce"), weighting=PLAIN)
    if role == "diversity":
        return _with_encoder(run, run.checker.diversity)
    quality = run.checker.quality
    selection = dataclasses.replace(run.selection, split="last", reserve=run.selection.kept_out)
    source = schema.Source(name=quality.source, path=None, n=None, folds=1, fold=None)
    clean = schema.Corruption("none", 0.0, 0.0, 0.0, None)  # D_P' is what the others are measured by
    real = dataclasses.replace(run, source=source, selection=selection, corruption=clean)
    checker = _with_encoder(real, quality)
    if quality.share < 1:
        files = run.dataset, checker.source, checker.selection, run.paths.data, run.paths.cache
        classes, size = once(("share", files), lambda: sizes(checker))  # of all of D_P': no seed has a part in them
        n = max(classes, round(quality.share * size))
        checker = dataclasses.replace(checker, source=dataclasses.replace(source, n=n))
    return checker


def sizes(run: "Run") -> tuple[int, int]:
    """How many classes a run knows, and on how many examples it trains."""
    material = sources.build(run)
    return len(material.labels), len(material.train)


def _with_encoder(run: "Run", wish: "Quality | Diversity") -> "Run":
    """With the wished model and recipe, by their files; null = the classifier's, as it is set."""
    if wish.model is not None:
        run = dataclasses.replace(run, model=_named("model", wish.model))
    recipe = wish.recipe or wish.model
    if recipe is not None:
        run = dataclasses.replace(run, optim=_named("optim", recipe))
    if wish.epochs is not None:
        n = wish.epochs
        small = run.source.name == "small_real"
        optim = dataclasses.replace(run.optim, **({"epochs_small_real": n} if small else {"epochs": n}))  # type: ignore[arg-type]
        run = dataclasses.replace(run, optim=optim)
    return run


def _named(group: str, name: str) -> Any:
    return once(("named", group, name), lambda: bind.named(group, name))


def digest(settings: dict[str, Any]) -> str:
    """The first 16 hex digits of SHA-256 of the sorted compact JSON."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True, separators=(",", ":")).encode()).hexdigest()[:16]


@lru_cache(maxsize=1)
def frozen_defaults() -> dict[str, Any]:
    """Dotted keys that were added later, with their first values."""
    return yaml.safe_load(DEFAULTS.read_text()) or {}


def without_defaults(settings: dict[str, Any], frozen: dict[str, Any] | None = None) -> dict[str, Any]:
    """The settings less those added later that still have their first value."""
    out: dict[str, Any] = json.loads(json.dumps(settings))
    for dotted, first in (frozen_defaults() if frozen is None else frozen).items():
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
