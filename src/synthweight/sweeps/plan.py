"""A sweep planned as a whole: every job composed, checked and named before the first one starts."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from hydra.core.override_parser.types import Override
from omegaconf import OmegaConf

from ..config import bind
from ..config.compose import Composer, offline
from ..config.llm_schema import Generate, Prompt
from ..config.overrides import experiment_overrides, parse
from ..config.schema import Report, Run
from ..errors import CheckerFailedError, UserError
from ..llm import classify
from ..models import pretrained
from ..runs import locks
from ..runs.identity import Identity, describe, identify
from ..runs.plan_cache import PlanCache
from ..runs.store import Store
from .grid import Block, blocks_of, expand, find_sweep


@dataclass(frozen=True)
class SweepOptions:
    """How a sweep is carried out: the fields of `hydra.sweeper` besides its blocks.

    Attributes:
        retry_failed: Try again what failed before.
        fail_fast: Begin nothing more after the first failure.
        stack_seeds: Train the seeds of a configuration at once, as one stack.
        worker: The number of this worker where a command started several, from 1.
        parent: The process that started it; when that is gone, nothing more is begun.
    """

    retry_failed: bool = False
    fail_fast: bool = False
    stack_seeds: bool = False
    worker: int | None = None
    parent: int | None = None


@dataclass
class Job:
    """One run of a sweep.

    Attributes:
        identity: The run and its name.
        overrides: The command line that composes it.
        row: Whether it is a row of the sweep's table; False for a checker that the plan added.
        done: Whether it was finished when the sweep was planned.
        failure: The record of an earlier attempt that failed.
    """

    identity: Identity[Any]
    overrides: list[str]
    row: bool
    done: bool
    failure: dict[str, Any] | None = None

    @property
    def id(self) -> str:
        """The run's id."""
        return self.identity.id

    @property
    def trains(self) -> bool:
        """False where an LLM classifies, and nothing is trained."""
        return isinstance(self.identity.run, Run)

    def __str__(self) -> str:
        """The run in a few words."""
        run = self.identity.run
        return classify.describe(run) if isinstance(run, Prompt) else describe(run)


@dataclass
class SweepPlan:
    """Every run of a sweep, in the order of its blocks, added checkers first."""

    composer: Composer
    store: Store
    jobs: list[Job] = field(default_factory=list)

    @property
    def rows(self) -> list[Job]:
        """The runs of the sweep's table."""
        return [job for job in self.jobs if job.row]

    @property
    def dependents(self) -> Counter[str]:
        """By run id: for how many of the runs it is a checker."""
        return Counter(
            run_id for job in self.jobs for run_id in {c.id for c in job.identity.checkers.values()}
        )

    @property
    def todo(self) -> list[Job]:
        """What was not done when the sweep was planned, the checkers of others first."""
        dependents = self.dependents
        todo = [job for job in self.jobs if not job.done]
        return [job for job in todo if job.id in dependents] + [
            job for job in todo if job.id not in dependents
        ]

    def states(self) -> dict[str, tuple[str, str]]:
        """The state of each run now, by id.

        Returns:
            done, failed, running, first (a checker of another run, to do) or to do; and a remark on it.
        """
        dependents = self.dependents
        out: dict[str, tuple[str, str]] = {}
        for job in self.jobs:
            holder = locks.lock_holder(self.store.run_folder(job.id)) if not job.done else None
            if job.done or self.store.exists(job.id):
                out[job.id] = "done", ""
            elif holder is not None and holder.alive:
                out[job.id] = "running", f"{holder}{f', {holder.status}' if holder.status else ''}"
            elif (failure := self.store.failure(job.id)) is not None:
                out[job.id] = "failed", last_line(failure)
            else:
                out[job.id] = ("first" if job.id in dependents else "to do"), ""
        return out


@dataclass(frozen=True)
class OpenedSweep:
    """What a sweep's file and the command line say together."""

    plan: SweepPlan
    report: Report
    options: SweepOptions


def open_sweep(file: str, overrides: Sequence[str], fetch: bool = False, pinned: bool = False) -> OpenedSweep:
    """Plans a sweep without a Hydra application.

    Args:
        file: A name in `sweeps/`, or the path of a YAML file.
        overrides: The command line. A launcher changes no plan: what it sets below `hydra` is passed over.
        fetch: Bring the encoders that the missing runs need.
        pinned: Only rows are read: name data that are not on this machine by their pinned hashes.

    Raises:
        UserError: No such sweep, or a bad setting.
    """
    path = find_sweep(file)
    ours = [o for o in overrides if not o.lstrip("+~").startswith("hydra")]
    with offline(path.parent):
        composer = Composer(path.stem)
        sweeper = composer.hydra(
            [o for o in overrides if o.startswith("hydra.sweeper.")], with_hydra=True
        ).hydra.sweeper
        blocks = blocks_of(composer)
        plan = plan_and_fetch(composer, blocks, ours) if fetch else plan_sweep(composer, blocks, ours, pinned)
        return OpenedSweep(plan, composer.report(), sweep_options(OmegaConf.to_container(sweeper)))


def report_of(file: str, overrides: Sequence[str] = ()) -> Report:
    """How the rows of a sweep's file are shown, with overrides of the node `report`. Raises UserError."""
    path = find_sweep(file)
    with offline(path.parent):
        return Composer(path.stem).report(overrides)


def known_overrides(file: str, overrides: Sequence[str]) -> list[str]:
    """The overrides whose key a sweep's configuration has, `+experiment=NAME` as those that its file holds."""
    path = find_sweep(file)
    with offline(path.parent):
        keys = {str(key) for key in Composer(path.stem).base(())}
        keys |= {"ablation"} if "loss" in keys else set()
        lines = experiment_overrides(overrides)
    return [line for line, parsed in zip(lines, parse(lines), strict=True) if top_key(parsed) in keys]


def top_key(override: Override) -> str:
    """The first name of an override's key: generator of generator/prompt and of generator.model."""
    return override.key_or_group.split(".")[0].split("/")[0]


def sweep_options(sweeper: Any) -> SweepOptions:
    """The options among the fields of `hydra.sweeper`. Raises UserError."""
    kept = {key: value for key, value in sweeper.items() if key not in ("_target_", "blocks", "total")}
    if kept["retry_failed"] is None:
        kept["retry_failed"] = not sweeper["blocks"]  # `train -m`: what was typed is tried
    return bind.settings(kept, SweepOptions, "hydra.sweeper")


def plan_sweep(
    composer: Composer, blocks: Sequence[Block], arguments: Sequence[str], pinned: bool = False
) -> SweepPlan:
    """Composes, checks and names all jobs before the first one starts, and adds missing checkers.

    Args:
        composer: Of the sweep's file.
        blocks: Its parameter maps.
        arguments: The command line.
        pinned: Name data that are not on this machine by their pinned hashes.

    Raises:
        UserError: The first bad job's reason, or a finished row of a newer format, or damaged. Nothing was
            trained.
    """
    own: dict[str, Job] = {}
    added: dict[str, Job] = {}
    store: Store | None = None
    done: set[str] = set()
    cache = PlanCache(pinned)
    for overrides in expand(blocks, arguments):
        settings = composer.settings(overrides)
        if store is None:
            store = Store(settings.paths.outputs)
            done = store.ids()
        identity = identify_job(settings, cache)
        job = own.setdefault(identity.id, Job(identity, overrides, row=True, done=identity.id in done))
        if not job.done:
            for checker in identity.checkers.values():
                added.setdefault(checker.id, Job(checker, [], row=False, done=checker.id in done))
    extra = [job for run_id, job in added.items() if run_id not in own and not job.done]
    for job in extra:
        job.overrides = composer.overrides(job.identity.run)
    assert store is not None
    plan = SweepPlan(composer, store, extra + list(own.values()))
    for job in plan.jobs:
        if job.done:
            store.check_format(job.id)
    load_failures(plan)
    return plan


def identify_job(settings: bind.Settings, cache: PlanCache) -> Identity[Any]:
    """What names a job. Raises UserError for bad input, and for `generate`, which makes no row.

    Args:
        settings: Of a training or a few-shot classification.
        cache: Of data and files.
    """
    if isinstance(settings, Generate):
        raise UserError("generate writes one set at a time: -m is for train and prompt")
    if isinstance(settings, Prompt):
        return classify.identify(settings, cache.pinned)
    return identify(settings, cache)


def plan_and_fetch(composer: Composer, blocks: Sequence[Block], arguments: Sequence[str]) -> SweepPlan:
    """The same for what is to be trained now: the encoders of all its runs are here afterwards.

    Raises UserError.
    """
    plan = plan_sweep(composer, blocks, arguments)
    trained = [job.identity for job in plan.todo if job.trains]
    if pretrained.fetch(each.run.model for one in trained for each in (one, *one.checkers.values())):
        plan = plan_sweep(composer, blocks, arguments)  # by the hashes of what came
    if trained:
        from ..runs import preflight  # a sweep that is finished needs no torch

        for job in plan.todo:
            if job.trains:
                preflight.require_fit(job.identity.run)
    return plan


def load_failures(plan: SweepPlan) -> None:
    """Records which jobs failed before.

    One that failed for its checker alone may begin as soon as that one may.
    """
    for job in plan.todo:
        failure = plan.store.failure(job.id)
        job.failure = None if failure is None or is_checker_failure(failure) else failure


def is_checker_failure(failure: dict[str, Any]) -> bool:
    """Whether a run failed only because its checker had."""
    return str(failure["exception"]).startswith(f"{CheckerFailedError.__name__}:")


def last_line(failure: dict[str, Any]) -> str:
    """The last line of a recorded traceback, which says what went wrong."""
    lines = str(failure["traceback"]).strip().splitlines() or [str(failure["exception"])]
    return lines[-1].removeprefix("synthweight.errors.")
