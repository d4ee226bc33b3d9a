"""Runs at W&B, online or as offline files: the only file that knows its client.

W&B shows what rows hold; no table or figure asks it. Whatever goes wrong there, the training goes on.
"""

import json
import logging
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from shutil import rmtree
from typing import Any

import numpy as np
import wandb

from ..atomic_io import part_path
from ..errors import UserError, first_line
from .wandb_cards import Card, Drawn, config_of, summary_of

INIT, REPLY, FINISH = 20, 10, 60  # seconds: to open a run, for one question, to upload the rest at a run's end
BINS = 64
MARK = "written.json"  # in an offline run's folder: which row it holds


class Session:
    """Whether this process's runs go online; decided at the first of them, said once."""

    def __init__(self) -> None:
        self.decided: str | None = None

    def mode(self) -> str:
        """online, offline or disabled: WANDB_MODE and `wandb offline` count, then whether there is a key that is taken."""
        if self.decided is None:
            logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)  # that its telemetry got nowhere is no news
            wanted = wandb.setup(settings=wandb.Settings(silent=True)).settings.mode
            if wanted in ("offline", "dryrun", "disabled"):
                self.decided = "disabled" if wanted == "disabled" else "offline"
            else:
                self.decided = self.asked()
        return self.decided

    def asked(self) -> str:
        """Asks the server whether it takes the key; without a key nobody is asked."""
        try:
            if wandb.login(prompt=False, verify=True):
                return "online"
        except wandb.Error as error:
            return self.refuse(error)
        print("W&B: no key (WANDB_API_KEY, or wandb login): written offline, to runs/<id>/wandb of the outputs", flush=True)
        return "offline"

    def refuse(self, error: Exception) -> str:
        """Offline from now on, with one warning."""
        self.decided = "offline"
        warnings.warn(f"W&B cannot be used online ({first_line(error)}): the runs go on offline", stacklevel=2)
        return self.decided


session = Session()


def start(card: Card, folder: Path, live: bool) -> Any:
    """A run of W&B's own, its files in `folder`; offline where the server does not take it.

    A live one goes on where it was: after a checkpoint it keeps the epochs that it has sent. One of a row begins anew and says
    nothing of this machine.
    """
    with suppress(Exception):  # of a run whose service is gone
        wandb.finish()  # a second init in a process would return the first run
    folder.mkdir(parents=True, exist_ok=True)

    def init(mode: str) -> Any:
        return wandb.init(
            mode=mode,  # type: ignore[arg-type]
            project=card.project,
            id=card.id,
            name=card.name,
            group=card.group,
            job_type=card.job_type,
            tags=list(card.tags),
            config=card.config,
            dir=str(folder),
            resume="allow" if live else None,
            settings=settings,
        )

    settings = wandb.Settings(silent=True, init_timeout=INIT, finish_timeout=FINISH, finish_timeout_raises=True)
    if not live:
        settings.x_disable_stats = settings.x_disable_meta = settings.disable_git = True
        settings.console = "off"

    mode = session.mode()
    try:
        run = init(mode)
    except Exception as error:  # W&B's own, or of its service
        if mode != "online":
            raise
        refused = session.refuse(error)
        wandb.teardown()  # its service holds the id of the run that it could not open
        run = init(refused)
    run.define_metric("epoch")
    run.define_metric("*", step_metric="epoch")
    return run


def note(run: Any, number: int, drawn: dict[str, float], weights: np.ndarray) -> None:
    """An epoch, counted from 1. Its number is the step too: an epoch that is sent twice counts once."""
    values: dict[str, Any] = {"epoch": number, **drawn}
    known = weights[np.isfinite(weights)]
    if len(known):
        values["weights/histogram"] = wandb.Histogram(np_histogram=np.histogram(known.astype(np.float64), bins=BINS))
    run.log(values, step=number, commit=True)  # uncommitted it would be sent at the end, over the summary of the row


def conclude(run: Any, row: dict[str, Any]) -> None:
    """What a row says beyond its epochs."""
    if "exception" in run.summary.keys():  # noqa: SIM118 — of an attempt before; a summary has no __contains__
        del run.summary["exception"]
    run.summary.update(summary_of(row))
    run.config.update(config_of(row), allow_val_change=True)


def mark(run: Any, row: dict[str, Any]) -> None:
    """Says in an offline run's folder which row it holds."""
    text = json.dumps({"project": run.project, "parquet_sha256": row["parquet_sha256"]})
    (Path(run.settings.sync_dir) / MARK).write_text(text + "\n", encoding="utf-8")


def written(folder: Path, project: str, sha256: str) -> bool:
    """Whether a run's folder has offline files of this very row."""
    marks = [json.loads(path.read_text(encoding="utf-8")) for path in folder.glob(f"wandb/offline-run-*/{MARK}")]
    return {"project": project, "parquet_sha256": sha256} in marks


class Live:
    """A run that is at it. Of all that goes wrong at W&B the training meets one warning, and then no more of W&B."""

    def __init__(self, card: Card, folder: Path) -> None:
        self.broken = False
        self.run = self.guarded(lambda: start(card, folder, live=True))

    def epoch(self, number: int, drawn: dict[str, float], weights: np.ndarray) -> None:
        self.guarded(lambda: note(self.run, number, drawn, weights))

    def row(self, row: dict[str, Any]) -> None:
        self.guarded(lambda: conclude(self.run, row))
        if session.mode() == "offline":
            self.guarded(lambda: mark(self.run, row))

    def close(self, error: BaseException | None) -> None:
        """Ends the run at W&B: as failed, with the first line of the reason, where there is an error."""
        if error is not None:
            reason = f"{type(error).__name__}: {first_line(error)}"
            self.guarded(lambda: self.run.summary.update({"exception": reason}))
        code = 0 if error is None else 255 if isinstance(error, KeyboardInterrupt) else 1
        self.guarded(lambda: self.run.finish(exit_code=code))

    def guarded(self, act: Callable[[], Any]) -> Any:
        if self.broken:
            return None
        try:
            return act()
        except Exception as error:  # its service died, its disk is full, it cannot upload: no reason to lose hours of training
            self.broken = True
            warnings.warn(f"W&B: {type(error).__name__}: {first_line(error)}: the run goes on without it", stacklevel=2)
            with suppress(Exception):
                wandb.teardown(exit_code=1)  # the next run begins with a service of its own
            return None


def uploaded(project: str, run_id: str, sha256: str) -> bool:
    """Whether the server has this very row. Raises UserError where it cannot be asked."""
    try:
        found = wandb.Api(timeout=REPLY).run(f"{project}/{run_id}")
        return found.state == "finished" and found.config.get("parquet_sha256") == sha256
    except (wandb.Error, ValueError) as error:
        if "not find" in str(error) or "not found" in str(error):
            return False
        raise UserError(f"W&B: {first_line(error)}: the same command goes on where it stopped") from error


def send(card: Card, row: dict[str, Any], epochs: Callable[[], list[Drawn]], folder: Path) -> str:
    """A row as a run, in place of what the server had of it; offline whole or not at all, in the run's folder.

    Args:
        epochs: read only where they are to be sent. folder: of the run.

    Returns:
        "there" (it was, and nothing is done), "uploaded" or "written".

    Raises:
        UserError: W&B is disabled, or its server does not answer any more.
    """
    sha256, mode = row["parquet_sha256"], session.mode()
    if mode == "disabled":
        raise UserError("W&B is disabled (WANDB_MODE): nothing can be sent")
    if uploaded(card.project, card.id, sha256) if mode == "online" else written(folder, card.project, sha256):
        return "there"
    part = part_path(folder / "wandb-row")
    try:
        run = start(card, part, live=False)
        for number, (drawn, weights) in enumerate(epochs(), 1):
            note(run, number, drawn, weights)
        conclude(run, row)
        run.finish(exit_code=0)
        if session.mode() == "online":
            return "uploaded"
        mark(run, row)
        made, place = Path(run.settings.sync_dir), folder / "wandb" / Path(run.settings.sync_dir).name
        place.parent.mkdir(parents=True, exist_ok=True)
        rmtree(place, ignore_errors=True)
        made.rename(place)
        return "written"
    except (wandb.Error, TimeoutError) as error:
        raise UserError(f"W&B: {first_line(error)}: the same command goes on where it stopped") from error
    finally:
        rmtree(part, ignore_errors=True)


def entity() -> str:
    """Whom the key belongs to; nobody where there is none. Raises UserError."""
    try:
        return str(wandb.Api(timeout=REPLY).default_entity or "") if session.mode() == "online" else ""
    except wandb.Error as error:
        raise UserError(f"W&B does not say whose the key is ({first_line(error)})") from error
