"""What has become of a sweep's runs: `plan` says it once and in full, `status` as a live table."""

import sys
import time
from collections import Counter
from collections.abc import Callable

from rich.console import Console
from rich.live import Live
from rich.table import Table

from ..config import compose, schema
from ..runs import locks
from ..runs.store import Store
from .estimate import Times, told
from .plan import Job, Planned, last_line

ORDER = ("running", "failed", "first", "to do", "done")
EVERY = 2.0  # seconds between two looks
SHOWN = 30  # lines of a live table; the counts above it are of all
Line = tuple[str, str, str, str]  # state, id, run, a word on it
View = Callable[[], tuple[str, list[Line]]]


def plan_text(planned: Planned) -> str:
    """Every run with its state and how many share it as a checker, then the counts and the time that the rest may take."""
    states, served = planned.states(), planned.served
    lines = []
    for job in planned.jobs:
        state, word = states[job.who.id]
        runs = served[job.who.id]
        shared = f"  (checker of {runs} run{'s' * (runs > 1)}{'' if job.row else '; no row of the table'})" if runs else ""
        lines.append(f"{state:>7}  {job.who.id}  {job}{f'  {word}' if word else ''}{shared}")
    return "\n".join([*lines, counts(planned, states), time_left(planned, states)])


def counts(planned: Planned, states: dict[str, tuple[str, str]]) -> str:
    """One line: how many are done, running, failed and to do."""
    found = Counter(state for state, _ in states.values())
    done = sum(states[job.who.id][0] == "done" for job in planned.rows)
    more = "".join(f", {state} {found[state]}" for state in ("running", "failed") if found[state])
    todo = found["first"] + found["to do"]
    return f"Jobs: {len(planned.rows)}; done {done}{more}, to do {todo} with their checkers"


def time_left(planned: Planned, states: dict[str, tuple[str, str]]) -> str:
    """One line: the time of what is to do or running, one run after another, and what says so."""
    left = [job for job in planned.jobs if states[job.who.id][0] in ("first", "to do", "running")]
    if not left:
        return "Time: nothing to do"
    times = Times(planned.store)
    known = [seconds for job in left if (seconds := times.of(job)) is not None]
    if not known:
        return "Time: no finished row of the same encoder to estimate it from"
    unknown = len(left) - len(known)
    without = f"; {unknown} more have no finished row of the same encoder to estimate from" if unknown else ""
    return f"Time: about {told(sum(known))} for {len(known)} runs, one after another, by the medians of finished rows{without}"


def of_sweep(planned: Planned) -> View:
    """The runs of one sweep."""
    by_id: dict[str, Job] = {job.who.id: job for job in planned.jobs}

    def look() -> tuple[str, list[Line]]:
        states = planned.states()
        return counts(planned, states), [(state, i, str(by_id[i]), word) for i, (state, word) in states.items()]

    return look


def of_folder(overrides: list[str]) -> View:
    """Whatever runs or has failed in the outputs folder, by id: which sweep it belongs to only a sweep's file knows."""
    with compose.offline(schema.CONF):
        store = Store(compose.Composer("config").config(overrides).paths.outputs)

    def look() -> tuple[str, list[Line]]:
        done, lines = store.ids(), []
        for folder in sorted(store.runs.glob("*")):
            holder = locks.lock_holder(folder)
            if holder is not None and holder.alive:
                lines.append(("running", folder.name, "", f"{holder}{f', {holder.status}' if holder.status else ''}"))
            elif folder.name not in done and (failure := store.failure(folder.name)) is not None:
                lines.append(("failed", folder.name, "", last_line(failure)))
        found = Counter(state for state, *_ in lines)
        return f"{store.root}: done {len(done)}, running {found['running']}, failed {found['failed']}", lines

    return look


def table(head: str, lines: list[Line]) -> Table:
    """What runs and what failed first."""
    out = Table(title=head, title_justify="left")
    for column in ("state", "id", "run", ""):
        out.add_column(column, overflow="fold")
    colours = {"running": "yellow", "failed": "red", "done": "green"}
    for state, run_id, run, word in sorted(lines, key=lambda line: ORDER.index(line[0]))[:SHOWN]:
        out.add_row(f"[{colours.get(state, 'default')}]{state}", run_id, run, word.replace("[", r"\["))
    if len(lines) > SHOWN:
        out.add_row("…", "", f"{len(lines) - SHOWN} more: synthweight plan lists all", "")
    return out


def watch(view: View, once: bool) -> None:
    """The table, renewed until nothing is left to do or Ctrl-C; once where it goes to no terminal."""
    console = Console()
    if once or not sys.stdout.isatty():
        console.print(table(*view()))
        return
    with Live(table(*view()), console=console, screen=False) as live:
        while True:
            time.sleep(EVERY)
            head, lines = view()
            live.update(table(head, lines))
            if lines and all(state == "done" for state, *_ in lines):
                return
