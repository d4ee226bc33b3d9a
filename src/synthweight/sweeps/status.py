"""What has become of a sweep's runs: `plan` says it once and in full, `status` as a live table."""

import sys
import time
from collections import Counter
from collections.abc import Callable

from rich.console import Console
from rich.live import Live
from rich.table import Table

from ..config import compose, schema
from ..progress import duration_text
from ..runs import locks
from ..runs.store import Store
from .estimate import RunTimes
from .plan import Job, SweepPlan, last_line

ORDER = ("running", "failed", "first", "to do", "done")
PERIOD = 2.0  # seconds between two looks
SHOWN = 30  # lines of a live table; the counts above it are of all
StatusLine = tuple[str, str, str, str]  # state, id, run, a remark
View = Callable[[], tuple[str, list[StatusLine]]]


def plan_text(plan: SweepPlan) -> str:
    """Every run with its state and the number of runs that it checks, then counts and time left."""
    states, dependents = plan.states(), plan.dependents
    lines = []
    for job in plan.jobs:
        state, remark = states[job.id]
        runs = dependents[job.id]
        shared = (
            f"  (checker of {runs} run{'s' * (runs > 1)}{'' if job.row else '; no row of the table'})"
            if runs
            else ""
        )
        lines.append(f"{state:>7}  {job.id}  {job}{f'  {remark}' if remark else ''}{shared}")
    return "\n".join([*lines, counts(plan, states), time_left(plan, states)])


def counts(plan: SweepPlan, states: dict[str, tuple[str, str]]) -> str:
    """One line: how many are done, running, failed and to do.

    Args:
        plan: The sweep.
        states: Of its runs.
    """
    found = Counter(state for state, _ in states.values())
    done = sum(states[job.id][0] == "done" for job in plan.rows)
    more = "".join(f", {state} {found[state]}" for state in ("running", "failed") if found[state])
    todo = found["first"] + found["to do"]
    return f"Jobs: {len(plan.rows)}; done {done}{more}, to do {todo} with their checkers"


def time_left(plan: SweepPlan, states: dict[str, tuple[str, str]]) -> str:
    """One line: the time of what is to do or running, one run after another, and what it is estimated from.

    Args:
        plan: The sweep.
        states: Of its runs.
    """
    left = [job for job in plan.jobs if states[job.id][0] in ("first", "to do", "running")]
    if not left:
        return "Time: nothing to do"
    times = RunTimes(plan.store)
    known = [seconds for job in left if (seconds := times.estimate(job)) is not None]
    if not known:
        return "Time: no finished row of the same encoder to estimate it from"
    unknown = len(left) - len(known)
    without = f"; {unknown} more have no finished row of the same encoder to estimate from" if unknown else ""
    total = duration_text(sum(known))
    return f"Time: about {total} for {len(known)} runs, one after another, by the medians of finished rows{without}"


def view_of_sweep(plan: SweepPlan) -> View:
    """The runs of one sweep."""
    by_id: dict[str, Job] = {job.id: job for job in plan.jobs}

    def look() -> tuple[str, list[StatusLine]]:
        states = plan.states()
        return counts(plan, states), [
            (state, i, str(by_id[i]), remark) for i, (state, remark) in states.items()
        ]

    return look


def view_of_folder(overrides: list[str]) -> View:
    """What runs or has failed in the outputs folder, by id, since no sweep's file names the runs."""
    with compose.offline(schema.CONF):
        store = Store(compose.Composer("config").run(overrides).paths.outputs)

    def look() -> tuple[str, list[StatusLine]]:
        done, lines = store.ids(), []
        for folder in sorted(store.runs.glob("*")):
            holder = locks.lock_holder(folder)
            if holder is not None and holder.alive:
                lines.append(
                    ("running", folder.name, "", f"{holder}{f', {holder.status}' if holder.status else ''}")
                )
            elif folder.name not in done and (failure := store.failure(folder.name)) is not None:
                lines.append(("failed", folder.name, "", last_line(failure)))
        found = Counter(state for state, *_ in lines)
        return f"{store.root}: done {len(done)}, running {found['running']}, failed {found['failed']}", lines

    return look


def status_table(head: str, lines: list[StatusLine]) -> Table:
    """What runs and what failed first.

    Args:
        head: The title.
        lines: A line per run.
    """
    out = Table(title=head, title_justify="left")
    for column in ("state", "id", "run", ""):
        out.add_column(column, overflow="fold")
    colours = {"running": "yellow", "failed": "red", "done": "green"}
    for state, run_id, run, remark in sorted(lines, key=lambda line: ORDER.index(line[0]))[:SHOWN]:
        out.add_row(f"[{colours.get(state, 'default')}]{state}", run_id, run, remark.replace("[", r"\["))
    if len(lines) > SHOWN:
        out.add_row("…", "", f"{len(lines) - SHOWN} more: synthweight plan lists all", "")
    return out


def watch(view: View, once: bool) -> None:
    """The table, renewed until nothing is left to do or Ctrl-C; once where it is not shown on a terminal.

    Args:
        view: Gives title and lines.
        once: Print it once.
    """
    console = Console()
    if once or not sys.stdout.isatty():
        console.print(status_table(*view()))
        return
    with Live(status_table(*view()), console=console, screen=False) as live:
        while True:
            time.sleep(PERIOD)
            head, lines = view()
            live.update(status_table(head, lines))
            if lines and all(state == "done" for state, *_ in lines):
                return
