"""A sweep: expanded from blocks, planned as a whole, launched in waves, its failures listed."""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from itertools import product
from pathlib import Path
from typing import Any

from omegaconf import ListConfig, OmegaConf

from . import identity, prompt
from .compose import PROMPT, Composer, parse
from .configs import SWEEPS, Run
from .errors import CheckerFailed, SweepFailed, UserError, first_line
from .identity import Identity, describe
from .llm.settings import Prompt
from .store import Store

COMMANDS: dict[str, type] = {"train": Run, "prompt": Prompt}  # what a block may be of
ASIDE = "SYNTHWEIGHT_ASIDE"  # overrides that only `prompt` knows: Hydra would refuse them before our sweeper saw them
JOBS = "SYNTHWEIGHT_JOBS"  # the environment carries the number of jobs to a launcher's processes
Block = dict[str, Any]


@dataclass
class Job:
    """One run of a sweep. `row` is False for a checker that the plan added: it is no row of the sweep's table."""

    who: Identity
    overrides: list[str]
    row: bool
    done: bool

    @property
    def prompt(self) -> bool:
        """Whether it is the LLM itself that classifies: nothing is trained, and Hydra's launcher has no part in it."""
        return isinstance(self.who.run, Prompt)


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
        todo = [job for job in self.jobs if not job.done and not job.prompt]
        return [[j for j in todo if j.who.id in wanted], [j for j in todo if j.who.id not in wanted]]

    @property
    def prompts(self) -> list[Job]:
        """Few-shot classifications that are to do."""
        return [job for job in self.jobs if job.prompt and not job.done]

    @property
    def todo(self) -> int:
        """How many jobs are to do, added checkers included."""
        return sum(map(len, self.waves)) + len(self.prompts)


def find(name: str) -> Path:
    """A sweep's file, by its name in sweeps/ or by its path. Raises UserError."""
    for path in (Path(name), SWEEPS / f"{name}.yaml"):
        if path.is_file():
            return path.resolve()
    there = ", ".join(sorted(path.stem for path in SWEEPS.glob("*.yaml")))
    raise UserError(f"{name}: no such sweep; there are {there}, or give the path of a YAML file")


def expand(blocks: Sequence[Block], arguments: Sequence[str]) -> list[list[str]]:
    """The jobs of a list of blocks as override lists, equal ones united, in order.

    An override on the command line replaces its key in every block that has it and is added to the others; where the
    blocks are of several commands, it goes to those whose command knows its key. The jobs of a block with
    `command: prompt` begin with `command=prompt`.

    Raises:
        UserError: an override that Hydra's grammar does not know, a block with a value that it repeats or of a command
            that there is not.
    """
    given = {o.key_or_group: o for o in parse(list(arguments))}
    commands = [command_of(block) for block in blocks or [{}]]
    jobs: dict[tuple[str, ...], list[str]] = {}
    for command, block in zip(commands, blocks or [{}], strict=True):
        axes = {"command": [PROMPT]} if command == "prompt" else {}
        axes |= {key: values(f"{key}={value_text(value)}") for key, value in block.items() if key != "command"}
        for key, override in given.items():
            if command in takers(key, commands):
                axes[key] = values(str(override.input_line))
        for combination in product(*axes.values()):
            jobs.setdefault(tuple(sorted(combination)), list(combination))
    return list(jobs.values())


def command_of(block: Block) -> str:
    command = str(block.get("command", "train"))
    if command not in COMMANDS:
        raise UserError(f"command={command}: a block's command is {' or '.join(COMMANDS)}")
    return command


def set_aside(arguments: Sequence[str]) -> list[str]:
    """The overrides of a sweep that Hydra itself may see; those that only `prompt` knows wait in the environment."""
    strange = [str(o.input_line) for o in parse(list(arguments)) if takers(o.key_or_group, list(COMMANDS)) == {"prompt"}]
    os.environ[ASIDE] = json.dumps(strange)
    return [line for line in arguments if line not in strange]


def aside() -> list[str]:
    """What `set_aside` kept back, once."""
    return list(json.loads(os.environ.pop(ASIDE, "[]")))


def takers(key: str, commands: Sequence[str]) -> set[str]:
    """The commands that an override is for: those that know its key; where none does, all (they will say so)."""
    top = key.split(".")[0].split("/")[0]
    knowing = {command for command in commands if top in {f.name for f in fields(COMMANDS[command])}}
    return knowing or set(commands)


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
        run = composer.job(overrides)
        store = store or Store(run.paths.outputs)
        who: Identity[Any] = prompt.identify(run) if isinstance(run, Prompt) else identity.of(run)
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
    todo = planned.todo
    done = sum(job.done for job in planned.rows)
    print(f"{len(planned.rows)} runs: {done} done, {todo} to do (checkers that others need come first)", flush=True)
    if not todo:
        print("nothing to do", flush=True)
        return []
    os.environ[JOBS] = str(todo)
    results: list[Any] = []
    failed: dict[str, tuple[Run | Prompt, BaseException]] = {}
    number = 0
    for job in planned.prompts:
        try:
            prompt.classify(job.who.run, progress(number))
        except Exception as error:
            failed[job.who.id] = (job.who.run, error)
        number += 1
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
            f"  {told(run)}: {type(e).__name__}: {first_line(e)} ({planned.store.run_folder(run_id) / 'failed.json'})"
            for run_id, (run, e) in failed.items()
        )
        raise SweepFailed(f"{len(failed)} of {todo} runs failed; the others are done:\n{listed}")
    return results


def told(run: Run | Prompt) -> str:
    """A job of either command in a few words."""
    return prompt.describe(run) if isinstance(run, Prompt) else describe(run)


def blocked(store: Store, job: Job, failed: dict[str, tuple[Run | Prompt, BaseException]]) -> bool:
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
