"""A sweep: expanded from blocks, planned as a whole, launched in waves, its failures listed."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

from omegaconf import ListConfig, OmegaConf

from . import identity
from .compose import Composer, parse
from .configs import SWEEPS, Run
from .errors import CheckerFailed, SweepFailed, UserError
from .identity import Identity, describe
from .store import Store

JOBS = "SYNTHWEIGHT_JOBS"  # the environment carries the number of jobs to a launcher's processes
Block = dict[str, Any]


@dataclass
class Job:
    """One run of a sweep. `row` is False for a checker that the plan added: it is no row of the sweep's table."""

    who: Identity
    overrides: list[str]
    row: bool
    done: bool


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
    def waves(self) -> list[list[Job]]:
        """What is to do: the checkers of others, then the rest."""
        wanted = {checker.id for job in self.jobs for checker in job.who.checkers.values()}
        todo = [job for job in self.jobs if not job.done]
        return [[j for j in todo if j.who.id in wanted], [j for j in todo if j.who.id not in wanted]]


def find(name: str) -> Path:
    """A sweep's file, by its name in sweeps/ or by its path. Raises UserError."""
    for path in (Path(name), SWEEPS / f"{name}.yaml"):
        if path.is_file():
            return path.resolve()
    there = ", ".join(sorted(path.stem for path in SWEEPS.glob("*.yaml")))
    raise UserError(f"{name}: no such sweep; there are {there}, or give the path of a YAML file")


def expand(blocks: Sequence[Block], arguments: Sequence[str]) -> list[list[str]]:
    """The jobs of a list of blocks as override lists, equal ones united, in order.

    An override on the command line replaces its key in every block that has it and is added to the others.

    Raises:
        UserError: an override that Hydra's grammar does not know, or a block with a value that it repeats.
    """
    given = {o.key_or_group: o for o in parse(list(arguments))}
    jobs: dict[tuple[str, ...], list[str]] = {}
    for block in blocks or [{}]:
        axes = {key: values(f"{key}={value_text(value)}") for key, value in block.items()}
        for key, override in given.items():
            axes[key] = values(str(override.input_line))
        for combination in product(*axes.values()):
            jobs.setdefault(tuple(sorted(combination)), list(combination))
    return list(jobs.values())


def value_text(value: Any) -> str:
    """A block's value as Hydra's grammar has it: `a,b` and `range(0,4)` are strings already."""
    if isinstance(value, (list, ListConfig)):
        return ",".join(value_text(v) for v in value)
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def values(line: str) -> list[str]:
    """One override per value of a swept one. Raises UserError for a value given twice."""
    override = parse([line])[0]
    if not override.is_sweep_override():
        return [line]
    key = override.get_key_element()
    texts = list(override.sweep_string_iterator())
    twice = next((text for text in texts if texts.count(text) > 1), None)
    if twice is not None:
        raise UserError(f"{line}: value {twice} is given twice")
    return [f"{key}={text}" for text in texts]


def blocks_of(composer: Composer) -> list[Block]:
    """The blocks of a sweep's file."""
    config = composer.hydra([], with_hydra=True)
    found = OmegaConf.to_container(config.hydra.sweeper.blocks)
    if not isinstance(found, list) or not found:
        raise UserError(f"{composer.config_name}: hydra.sweeper.blocks is empty: a sweep is a list of parameter maps")
    return found


def plan(composer: Composer, blocks: Sequence[Block], arguments: Sequence[str]) -> Planned:
    """Composes, checks and names every job before the first one starts, and adds the checkers that are missing.

    Raises:
        UserError: the first bad job's reason; nothing was trained.
    """
    found: dict[str, Job] = {}
    added: dict[str, Job] = {}
    store: Store | None = None
    for overrides in expand(blocks, arguments):
        run = composer.run(overrides)
        store = store or Store(run.paths.outputs)
        who = identity.of(run)
        found.setdefault(who.id, Job(who, overrides, row=True, done=store.exists(who.id)))
        if not found[who.id].done:
            for checker in who.checkers.values():
                if checker.id not in added:
                    added[checker.id] = Job(checker, [], row=False, done=store.exists(checker.id))
    extra = [job for run_id, job in added.items() if run_id not in found and not job.done]
    for job in extra:
        job.overrides = composer.overrides(job.who.run)
    assert store is not None
    return Planned(composer, store, extra + list(found.values()))


def execute(planned: Planned, launcher: Any) -> list[Any]:
    """Launches the waves; a failure leaves the others running, and all are listed at the end.

    Raises:
        SweepFailed: at least one run failed.
    """
    todo = sum(map(len, planned.waves))
    done = sum(job.done for job in planned.rows)
    print(f"{len(planned.rows)} runs: {done} done, {todo} to do (checkers that others need come first)", flush=True)
    if not todo:
        print("nothing to do", flush=True)
        return []
    os.environ[JOBS] = str(todo)
    results: list[Any] = []
    failed: dict[str, tuple[Run, BaseException]] = {}
    number = 0
    for wave in planned.waves:
        ready = [job for job in wave if not blocked(planned.store, job, failed)]
        if not ready:
            continue
        returns = launcher.launch([job.overrides for job in ready], initial_job_idx=number)
        number += len(ready)
        for job, returned in zip(ready, returns, strict=True):
            if returned.status.name == "FAILED":
                failed[job.who.id] = (job.who.run, returned._return_value)
        results += returns
    if failed:
        listed = "\n".join(
            f"  {describe(run)}: {type(e).__name__}: {str(e).splitlines()[0] if str(e) else ''}"
            f" ({planned.store.run_folder(run_id) / 'failed.json'})"
            for run_id, (run, e) in failed.items()
        )
        raise SweepFailed(f"{len(failed)} of {todo} runs failed; the others are done:\n{listed}")
    return results


def blocked(store: Store, job: Job, failed: dict[str, tuple[Run, BaseException]]) -> bool:
    """Whether a run cannot begin because its checker failed in this sweep; it is recorded as failed because of it."""
    for role, checker in job.who.checkers.items():
        if checker.id in failed:
            error = CheckerFailed(f"its {role} checker {checker.id} failed: {failed[checker.id][1]}")
            store.fail(job.who.id, error, "sweep")
            failed[job.who.id] = (job.who.run, error)
            return True
    return False


def progress(number: int | None) -> str:
    """`[3/12] ` for a job of a sweep, nothing for a single run."""
    total = os.environ.get(JOBS)
    return f"[{number + 1}/{total}] " if total and number is not None else ""
