"""Which runs the checkers of a run are."""

import dataclasses
from typing import TYPE_CHECKING, Any

from ..config import bind, schema
from ..data import sources
from ..losses import LOSSES, PLAIN
from .plan_cache import PlanCache

if TYPE_CHECKING:
    from ..config.schema import Diversity, Quality, Run


def checker_keys(run: "Run") -> list[str]:
    """The keys of a run's checkers.

    "quality" and "diversity" are trained on all of their data, "quality/0", … on all but one fold.
    """
    keys: list[str] = []
    for role in sorted(run.loss.needs):
        keys += [] if run.checker.crossed(role) else [role]
        keys += [f"{role}/{fold}" for fold in range(run.checker.folds(role))]
    return keys


def checker_run(run: "Run", key: str, cache: PlanCache | None = None) -> "Run":
    """The run that a checker is: trained by plain cross-entropy, whatever the run does to its weights.

    "quality": `loss=ce source=small_real selection.split=last` with the classifier's seed, without what the
    run holds out, and of a D_P' as small as the run's (`source.real_n`).
    "diversity": the run itself with `loss=ce`, so that the CE baseline and IMP's diversity checker are one
    training. "quality/2", "diversity/2": the same, trained on all but fold 2.

    Args:
        run: the run that needs the checker.
        key: one of `checker_keys`.
        cache: of data and files that were read.

    Raises:
        UserError: a named model or recipe does not exist, or the data cannot be read.
    """
    cache = cache or PlanCache()
    role, _, fold = key.partition("/")
    run = dataclasses.replace(run, loss=LOSSES["ce"](name="ce"), weighting=PLAIN)
    checker = _quality(run, cache) if role == "quality" else _with_encoder(run, run.checker.diversity, cache)
    if fold:
        part = dataclasses.replace(checker.source, folds=run.checker.folds(role), fold=int(fold))
        checker = dataclasses.replace(checker, source=part)
    return checker


def _quality(run: "Run", cache: PlanCache) -> "Run":
    """The quality checker that is trained on all of its data."""
    quality = run.checker.quality
    selection = dataclasses.replace(run.selection, split="last", reserve=run.selection.kept_out)
    real_n = run.source.real_n if quality.source == "small_real" else None
    source = schema.Source(name=quality.source, path=None, n=None, folds=1, fold=None, real_n=real_n)
    clean = schema.Corruption("none", 0.0, 0.0, 0.0, None)  # D_P' is the measure of everything else
    real = dataclasses.replace(run, source=source, selection=selection, corruption=clean)
    checker = _with_encoder(real, quality, cache)
    if quality.share < 1:
        files = run.dataset, checker.source, checker.selection, run.paths.data, run.paths.cache
        # of all of D_P', whatever the seed
        classes, size = cache.get(("share", files), lambda: training_size(checker, cache.pinned))
        n = max(classes, round(quality.share * size))
        checker = dataclasses.replace(checker, source=dataclasses.replace(source, n=n))
    return checker


def training_size(run: "Run", pinned: bool) -> tuple[int, int]:
    """How many classes and how many training examples a run has.

    Args:
        run: It trains on all of its source.
        pinned: Take the pinned size of D_P' where its data are not on this machine.
    """
    labels, size = run.dataset.labels, run.dataset.sizes.get(run.source.name)
    whole = run.source.name == "small_real" and run.selection.kept_out == 0  # nothing is dropped of D_P'
    if pinned and labels and size and whole and sources.pinned_hashes(run):
        return len(labels), run.source.real_n or size
    data = sources.build_run_data(run)
    return len(data.labels), len(data.train)


def _with_encoder(run: "Run", wanted: "Quality | Diversity", cache: PlanCache) -> "Run":
    """The run with a checker's model, recipe and epochs; null keeps the classifier's."""

    def choice(group: str, name: str) -> Any:
        return cache.get(("choice", group, name), lambda: bind.load_choice(group, name))

    if wanted.model is not None:
        run = dataclasses.replace(run, model=choice("model", wanted.model))
    recipe = wanted.recipe or wanted.model
    if recipe is not None:
        run = dataclasses.replace(run, optim=choice("optim", recipe))
    if wanted.epochs is not None:
        key = "epochs_small_real" if run.source.name == "small_real" else "epochs"
        run = dataclasses.replace(run, optim=dataclasses.replace(run.optim, **{key: wanted.epochs}))  # type: ignore[arg-type]
    return run
