"""`synthweight wandb sync`: a sweep's finished rows as runs at W&B, whatever logger they were trained with."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..config import compose, schema
from ..config.bind import Settings
from ..runs.store import Store
from ..sweeps.plan import Job, open_sweep
from ..tracking import wandb
from ..training.history import epoch_scalars


def sync(file: str, overrides: Sequence[str]) -> None:
    """Sends what W&B does not have of a sweep's rows; of a row that it has, nothing.

    What is missing is named at the end.

    Raises:
        UserError: no such sweep, a damaged row, a server that does not answer any more.
    """
    plan = open_sweep(file, overrides, pinned=True).plan
    done = [job for job in plan.rows if plan.store.exists(job.id)]
    counted = dict.fromkeys(("uploaded", "written", "there"), 0)
    for number, job in enumerate(done, 1):
        what = send(plan.store, job, group(job.identity.run, Path(file).stem))
        counted[what] += 1
        print(
            f"[{number}/{len(done)}] {job} ({job.id}): {'there already' if what == 'there' else what}",
            flush=True,
        )
    print(closing(plan.store, [j for j in plan.rows if j not in done], counted), flush=True)


def send(store: Store, job: Job, group: str) -> str:
    """One row: "uploaded", "written" (offline) or "there".

    Its lock keeps out the live run, which may still be uploading.
    """
    row = store.row(job.id)
    card = wandb.RunCard.from_config(row["id"], row["config"], project(job.identity.run), group)
    with store.lock(row["id"]):
        return wandb.send_row(
            card, row, lambda: epochs(row, store.table(row["id"])), store.run_folder(row["id"])
        )


def project(settings: Settings) -> str:
    """The project that a run's logger names; few-shot classifications have no logger."""
    if isinstance(settings, schema.Run):
        return settings.logger.project
    with compose.offline(schema.CONF):
        return compose.Composer("config").run([]).logger.project


def group(settings: Settings, sweep: str) -> str:
    """The group that a run's logger names, else the name of its sweep."""
    named = settings.logger.group if isinstance(settings, schema.Run) else None
    return named or sweep


def epochs(row: dict[str, Any], table: pa.Table) -> list[wandb.EpochLog]:
    """What was drawn of each epoch when the row was made."""
    train = table.filter(pc.equal(table["split"], "train"))
    trainer = row["config"].get("trainer")  # nothing is trained where an LLM answers
    drawn = ("selection",) if trainer and trainer["test"] != "epoch" else ("selection", "test")
    out = []
    for epoch in row["epochs"]:
        kept = train.filter(pc.equal(train["epoch"], epoch["epoch"]))
        weights = kept["weight"].to_numpy().astype(np.float32)
        series = {name: epoch[name] for name in drawn}
        out.append((epoch_scalars(epoch["train_loss"], series, weights), weights))
    return out


def closing(store: Store, missing: Sequence[Job], counted: dict[str, int]) -> str:
    """What became of the rows, how to upload what was written, which rows there are not yet."""
    counts = (
        ", ".join(f"{n} {'there already' if what == 'there' else what}" for what, n in counted.items() if n)
        or "no row"
    )
    lines = [f"W&B: {counts}"]
    if wandb.session.decided == "offline":
        lines.append(f"offline files: wandb sync {store.runs}/*/wandb/offline-run-* uploads them")
    if missing:
        lines.append(f"not run yet: {len(missing)} ({', '.join(f'{job} {job.id}' for job in missing)})")
    return "\n".join(lines)
