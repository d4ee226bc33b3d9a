"""Runs at W&B, online or as offline files. Only this module and the two W&B commands know its client.

W&B shows what rows hold; no table or figure reads from it. Whatever goes wrong there, the training continues.
"""

import json
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from shutil import rmtree
from typing import Any

import numpy as np
import wandb

from ..atomic_io import part_path
from ..errors import UserError, first_line

logger = logging.getLogger(__name__)

# seconds: to open a run, for one question, to upload the rest at a run's end
INIT, REPLY, FINISH = (20, 10, 60)
BINS = 64  # of a histogram of weights
MARK = "written.json"  # in an offline run's folder: which row it holds
ROW_CONFIG = ("labels", "data", "checkers", "temperatures", "version", "provenance", "parquet_sha256")
EpochLog = tuple[dict[str, float], np.ndarray]  # an epoch's scalars by name, and the weights of its examples


@dataclass(frozen=True)
class RunCard:
    """What a run is called at W&B, and what it can be found by.

    Args:
        id: the run's own id.
        project: of W&B.
        name: shown in lists.
        group: the sweep's name, or "train".
        job_type: the loss, or "prompt".
        tags: dataset, source and model.
        config: the resolved settings.
    """

    id: str
    project: str
    name: str
    group: str
    job_type: str
    tags: tuple[str, ...]
    config: dict[str, Any]

    @classmethod
    def from_config(cls, run_id: str, config: dict[str, Any], project: str, group: str | None) -> "RunCard":
        """The card of a training, or of an LLM's few-shot classification, from its resolved settings.

        Args:
            run_id: of the run.
            config: its settings, as in its row.
            project: of W&B.
            group: of W&B.
        """
        dataset, seed = config["dataset"]["name"], config["seed"]
        if "loss" in config:
            kind, source, model = config["loss"]["name"], config["source"]["name"], config["model"]["name"]
        else:
            kind, source, model = "prompt", f"{config['shots']}-shot", config["generator"]["model"]
        # W&B's limit is 64 characters
        tags = tuple(dict.fromkeys(str(tag)[:64] for tag in (dataset, source, model)))
        return cls(run_id, project, f"{kind}-{source}-{seed}", group or "train", kind, tags, config)


def summary_of(row: dict[str, Any]) -> dict[str, Any]:
    """A row's metrics at the selected epoch and its seconds by stage, as W&B's summary names them."""
    chosen = row["epochs"][row["selected_epoch"] - 1]
    summary: dict[str, Any] = {"selected_epoch": row["selected_epoch"], "guard_hits": row["guard_hits"]}
    for name in ("selection", "test"):
        series = chosen.get(name) or {}
        summary |= {
            f"{name}/{key}": value for key, value in series.items() if isinstance(value, (int, float))
        }
    return summary | {f"seconds/{key}": value for key, value in row["seconds"].items()}


class WandbSession:
    """Whether this process's runs go online. Decided at the first of them, reported once."""

    def __init__(self) -> None:
        self.decided: str | None = None

    def mode(self) -> str:
        """Returns "online", "offline" or "disabled".

        By WANDB_MODE and `wandb offline`, else by whether the server accepts a key.
        """
        if self.decided is None:
            # its telemetry's failures are no news
            logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
            wanted = wandb.setup(settings=wandb.Settings(silent=True)).settings.mode
            if wanted in ("offline", "dryrun", "disabled"):
                self.decided = "disabled" if wanted == "disabled" else "offline"
            else:
                self.decided = self.check_key()
        return self.decided

    def check_key(self) -> str:
        """Returns "online" if the server accepts the key, else "offline", also where there is no key."""
        try:
            if wandb.login(prompt=False, verify=True):
                return "online"
        except wandb.Error as error:
            return self.go_offline(error)
        logger.info(
            "W&B: no key (WANDB_API_KEY, or wandb login): written offline, to runs/<id>/wandb of the outputs"
        )
        return "offline"

    def go_offline(self, error: Exception) -> str:
        """Writes all further runs offline, with one warning that names the error."""
        self.decided = "offline"
        logger.warning("W&B cannot be used online (%s): the runs go on offline", first_line(error))
        return self.decided


session = WandbSession()


def open_run(card: RunCard, folder: Path, live: bool) -> Any:
    """Opens a run of W&B's own, offline where the server refuses it.

    Args:
        card: of the run.
        folder: for its files.
        live: whether the run is training now: then it continues the one of its id, with the epochs sent so
            far. A run made from a row begins anew, and records nothing of this machine.
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

    settings = wandb.Settings(
        silent=True, init_timeout=INIT, finish_timeout=FINISH, finish_timeout_raises=True
    )
    if not live:
        settings.x_disable_stats = settings.x_disable_meta = settings.disable_git = True
        settings.console = "off"

    mode = session.mode()
    try:
        run = init(mode)
    except Exception as error:  # W&B's own, or of its service
        if mode != "online":
            raise
        offline = session.go_offline(error)
        wandb.teardown()  # its service holds the id of the run that it could not open
        run = init(offline)
    run.define_metric("epoch")
    run.define_metric("*", step_metric="epoch")
    return run


def log_epoch(run: Any, number: int, scalars: dict[str, float], weights: np.ndarray) -> None:
    """Sends an epoch. Its number is the step too, so that an epoch that is sent twice counts once.

    Args:
        run: of W&B.
        number: counted from 1.
        scalars: by name.
        weights: of the training examples, [n]; those that are not finite are left out.
    """
    values: dict[str, Any] = {"epoch": number, **scalars}
    known = weights[np.isfinite(weights)]
    if len(known):
        values["weights/histogram"] = wandb.Histogram(
            np_histogram=np.histogram(known.astype(np.float64), bins=BINS)
        )
    # uncommitted it would be sent at the end, over the summary of the row
    run.log(values, step=number, commit=True)


def log_row(run: Any, row: dict[str, Any]) -> None:
    """Sends what a row has beyond its epochs: summary and provenance."""
    if "exception" in run.summary.keys():  # noqa: SIM118 — of an attempt before; a summary has no __contains__
        del run.summary["exception"]
    run.summary.update(summary_of(row))
    run.config.update({key: row[key] for key in ROW_CONFIG if key in row}, allow_val_change=True)


def mark_written(run: Any, row: dict[str, Any]) -> None:
    """Writes into an offline run's folder which row it holds."""
    text = json.dumps({"project": run.project, "parquet_sha256": row["parquet_sha256"]})
    (Path(run.settings.sync_dir) / MARK).write_text(text + "\n", encoding="utf-8")


def is_written(folder: Path, project: str, sha256: str) -> bool:
    """Whether a run's folder has offline files of the row with this Parquet hash."""
    marks = [
        json.loads(path.read_text(encoding="utf-8")) for path in folder.glob(f"wandb/offline-run-*/{MARK}")
    ]
    return {"project": project, "parquet_sha256": sha256} in marks


class LiveRun:
    """A run that is training.

    The first thing that goes wrong at W&B is one warning, and ends the logging to W&B.

    Args:
        card: of the run.
        folder: of the run.
    """

    def __init__(self, card: RunCard, folder: Path) -> None:
        self.broken = False
        self.run = self.guarded(lambda: open_run(card, folder, live=True))

    def log_epoch(self, number: int, scalars: dict[str, float], weights: np.ndarray) -> None:
        """Sends an epoch, as the function of this name does.

        Args:
            number: of the epoch, from 1.
            scalars: by name.
            weights: each training example's, [n].
        """
        self.guarded(lambda: log_epoch(self.run, number, scalars, weights))

    def log_row(self, row: dict[str, Any]) -> None:
        """Sends the finished row, and marks offline files with it."""
        self.guarded(lambda: log_row(self.run, row))
        if session.mode() == "offline":
            self.guarded(lambda: mark_written(self.run, row))

    def close(self, error: BaseException | None) -> None:
        """Ends the run at W&B: as failed, with the first line of the reason, where there is an error."""
        if error is not None:
            reason = f"{type(error).__name__}: {first_line(error)}"
            self.guarded(lambda: self.run.summary.update({"exception": reason}))
        code = 0 if error is None else 255 if isinstance(error, KeyboardInterrupt) else 1
        self.guarded(lambda: self.run.finish(exit_code=code))

    def guarded(self, act: Callable[[], Any]) -> Any:
        """The result of a call to W&B; None, with one warning for all, where it fails."""
        if self.broken:
            return None
        try:
            return act()
        except (
            Exception
        ) as error:  # its service died, its disk is full, its upload failed: the training continues
            self.broken = True
            logger.warning("W&B: %s: %s: the run goes on without it", type(error).__name__, first_line(error))
            with suppress(Exception):
                wandb.teardown(exit_code=1)  # the next run begins with a service of its own
            return None


def is_uploaded(project: str, run_id: str, sha256: str) -> bool:
    """Whether the server has the row with this Parquet hash.

    Raises:
        UserError: the server does not answer.
    """
    try:
        found = wandb.Api(timeout=REPLY).run(f"{project}/{run_id}")
        return found.state == "finished" and found.config.get("parquet_sha256") == sha256
    except (wandb.Error, ValueError) as error:
        if "not find" in str(error) or "not found" in str(error):
            return False
        raise UserError(f"W&B: {first_line(error)}: the same command goes on where it stopped") from error


def send_row(card: RunCard, row: dict[str, Any], epochs: Callable[[], list[EpochLog]], folder: Path) -> str:
    """Sends a row as a run, in place of what the server had of it.

    Offline it is written whole or not at all, in the run's folder.

    Args:
        card: of the run.
        row: its JSON.
        epochs: gives the epochs' logs; called only where they are to be sent.
        folder: of the run.

    Returns:
        "there" (it was already, and nothing is done), "uploaded" or "written".

    Raises:
        UserError: W&B is disabled, or its server does not answer any more.
    """
    sha256, mode = row["parquet_sha256"], session.mode()
    if mode == "disabled":
        raise UserError("W&B is disabled (WANDB_MODE): nothing can be sent")
    if (
        is_uploaded(card.project, card.id, sha256)
        if mode == "online"
        else is_written(folder, card.project, sha256)
    ):
        return "there"
    part = part_path(folder / "wandb-row")
    try:
        run = open_run(card, part, live=False)
        for number, (scalars, weights) in enumerate(epochs(), 1):
            log_epoch(run, number, scalars, weights)
        log_row(run, row)
        run.finish(exit_code=0)
        if session.mode() == "online":
            return "uploaded"
        mark_written(run, row)
        made, place = Path(run.settings.sync_dir), folder / "wandb" / Path(run.settings.sync_dir).name
        place.parent.mkdir(parents=True, exist_ok=True)
        rmtree(place, ignore_errors=True)
        made.rename(place)
        return "written"
    except (wandb.Error, TimeoutError) as error:
        raise UserError(f"W&B: {first_line(error)}: the same command goes on where it stopped") from error
    finally:
        rmtree(part, ignore_errors=True)


def default_entity() -> str:
    """The user or team that the key belongs to; empty where runs are offline.

    Raises:
        UserError: the server does not answer.
    """
    try:
        return str(wandb.Api(timeout=REPLY).default_entity or "") if session.mode() == "online" else ""
    except wandb.Error as error:
        raise UserError(f"W&B does not accept the key ({first_line(error)})") from error
