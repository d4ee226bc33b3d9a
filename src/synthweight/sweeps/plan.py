"""A sweep planned as a whole: every job composed, checked and named before the first one starts."""

import json
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from ..config.compose import Composer
from ..config.llm_schema import Prompt
from ..errors import CheckerFailedError
from ..llm import classify
from ..models import pretrained
from ..runs import locks
from ..runs.identity import Identity, describe, identify
from ..runs.plan_cache import PlanCache
from ..runs.store import Store
from .grid import Block, expand

OPTIONS = "SYNTHWEIGHT_SWEEP"  # and what `synthweight sweep` was told past Hydra's command line


@dataclass
class Options:
    """How a sweep treats failures. Without `listed` (a worker of several) it leaves the list to who started it."""

    retry_failed: bool = True  # `train -m`: what was typed is tried
    fail_fast: bool = False
    listed: bool = True
    stack_seeds: bool = False

    def hand_over(self) -> None:
        """To the sweeper, past Hydra."""
        os.environ[OPTIONS] = json.dumps(asdict(self))

    @classmethod
    def handed(cls) -> "Options":
        """What `hand_over` left, once."""
        return cls(**json.loads(os.environ.pop(OPTIONS, "{}")))


@dataclass
class Job:
    """One run of a sweep. `row` is False for a checker that the plan added: it is no row of the sweep's table."""

    who: Identity
    overrides: list[str]
    row: bool
    done: bool
    failure: dict[str, Any] | None = None  # of an earlier attempt: failed.json

    @property
    def prompt(self) -> bool:
        """Whether it is the LLM itself that classifies: nothing is trained, and Hydra's launcher has no part in it."""
        return isinstance(self.who.run, Prompt)

    def __str__(self) -> str:
        """A job of either command in a few words."""
        run = self.who.run
        return classify.describe(run) if isinstance(run, Prompt) else describe(run)


@dataclass
class Planned:
    """Every run of a sweep, in the order of its blocks, added checkers first."""

    composer: Composer
    store: Store
    jobs: list[Job] = field(default_factory=list)

    @property
    def rows(self) -> list[Job]:
        return [job for job in self.jobs if job.row]

    @property
    def served(self) -> Counter[str]:
        """By run id: how many of the runs take it for a checker of theirs."""
        return Counter(run_id for job in self.jobs for run_id in {checker.id for checker in job.who.checkers.values()})

    @property
    def waves(self) -> list[list[Job]]:
        """What is to be trained: the checkers of others, then the rest."""
        wanted = self.served
        todo = [job for job in self.jobs if not job.done and not job.prompt]
        return [[j for j in todo if j.who.id in wanted], [j for j in todo if j.who.id not in wanted]]

    @property
    def prompts(self) -> list[Job]:
        """Few-shot classifications that are to do."""
        return [job for job in self.jobs if job.prompt and not job.done]

    @property
    def ahead(self) -> list[Job]:
        """What is to do, in the order in which it is taken: few-shot classifications, checkers, the rest."""
        return [*self.prompts, *(job for wave in self.waves for job in wave)]

    @property
    def todo(self) -> int:
        """How many jobs are to do, added checkers and those that failed before included."""
        return len(self.ahead)

    def states(self) -> dict[str, tuple[str, str]]:
        """What is known of each run now, by id: done, failed, running, first (somebody's checker) or to do; and a word on it."""
        first = {job.who.id for job in self.waves[0]}
        out: dict[str, tuple[str, str]] = {}
        for job in self.jobs:
            run_id = job.who.id
            holder = locks.lock_holder(self.store.run_folder(run_id)) if not job.done else None
            if job.done or self.store.exists(run_id):
                out[run_id] = "done", ""
            elif holder is not None and holder.alive:
                out[run_id] = "running", f"{holder}{f', {holder.status}' if holder.status else ''}"
            elif (failure := self.store.failure(run_id)) is not None:
                out[run_id] = "failed", last_line(failure)
            else:
                out[run_id] = ("first" if run_id in first else "to do"), ""
        return out


def plan(composer: Composer, blocks: Sequence[Block], arguments: Sequence[str]) -> Planned:
    """Composes, checks and names every job before the first one starts, and adds the checkers that are missing.

    Raises:
        UserError: the first bad job's reason; a row there of a newer format, or damaged. Nothing was trained.
    """
    found: dict[str, Job] = {}
    added: dict[str, Job] = {}
    store: Store | None = None
    done: set[str] = set()
    cache = PlanCache()
    for overrides in expand(blocks, arguments):
        run = composer.job(overrides)
        if store is None:
            store = Store(run.paths.outputs)
            done = store.ids()
        who: Identity[Any] = classify.identify(run) if isinstance(run, Prompt) else identify(run, cache)
        found.setdefault(who.id, Job(who, overrides, row=True, done=who.id in done))
        if not found[who.id].done:
            for checker in who.checkers.values():
                if checker.id not in added:
                    added[checker.id] = Job(checker, [], row=False, done=checker.id in done)
    extra = [job for run_id, job in added.items() if run_id not in found and not job.done]
    for job in extra:
        job.overrides = composer.overrides(job.who.run)
    assert store is not None
    planned = Planned(composer, store, extra + list(found.values()))
    for job in planned.jobs:
        if job.done:
            store.check_format(job.who.id)
    recall(planned)
    return planned


def ready(composer: Composer, blocks: Sequence[Block], arguments: Sequence[str]) -> Planned:
    """The same for what is to be trained now: the encoders of all its runs are here afterwards. Raises UserError."""
    planned = plan(composer, blocks, arguments)
    ahead = [job.who for job in planned.ahead if not job.prompt]
    if pretrained.fetch(who.run.model for of in ahead for who in (of, *of.checkers.values())):
        planned = plan(composer, blocks, arguments)  # by the hashes of what came
    if ahead:
        from ..runs import preflight  # a sweep that is finished needs no torch

        for job in planned.ahead:
            if not job.prompt:
                preflight.require_fit(job.who.run)
    return planned


def recall(planned: Planned) -> None:
    """Notes which jobs failed before. One that failed for its checker alone may begin as soon as that one may."""
    for job in planned.ahead:
        job.failure = planned.store.failure(job.who.id)
        if job.failure is not None and for_its_checker(job.failure):
            job.failure = None


def for_its_checker(failure: dict[str, Any]) -> bool:
    """Whether a run failed only because its checker had."""
    return str(failure["exception"]).startswith(f"{CheckerFailedError.__name__}:")


def last_line(failure: dict[str, Any]) -> str:
    """The last line of a recorded traceback, which says what went wrong."""
    lines = str(failure["traceback"]).strip().splitlines() or [str(failure["exception"])]
    return lines[-1].removeprefix("synthweight.errors.")
