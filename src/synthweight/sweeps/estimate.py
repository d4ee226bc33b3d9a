"""How long a run may take, from finished rows: those that differ by the seed alone, else the same model scaled by size."""

import json
from statistics import median
from typing import Any

from ..config import schema
from ..config.schema import Run
from ..data import sources
from ..runs.store import Store
from .plan import Job

APART = ("seed", "trainer")  # settings by which rows of one kind may differ; of the trainer's, precision counts


class Times:
    """Seconds of finished runs, whichever machine they ran on."""

    def __init__(self, store: Store) -> None:
        self.same: dict[str, list[float]] = {}  # seconds by settings apart from the seed
        self.per_example: dict[tuple[Any, ...], list[float]] = {}  # seconds an example and epoch, by encoder and length
        for run_id in sorted(store.ids()):
            row = store.row(run_id)
            if row["kind"] != "train" or row["provenance"]["stacked"]:  # whose seconds are a share of several runs'
                continue
            seconds = sum(row["seconds"].values())
            self.same.setdefault(settings_key(row["config"]), []).append(seconds)
            n = sum(split["n"] - split["dropped"] for name, split in row["data"].items() if name in trained_on(row["config"]))
            shown = (row["config"]["source"]["n"] or n) * len(row["epochs"])
            if shown:
                self.per_example.setdefault(size_key(row["config"]), []).append(seconds / shown)

    def of(self, job: Job) -> float | None:
        """Seconds that a job may take, or None where no finished row says anything about it."""
        if not isinstance(job.who.run, Run):
            return None
        run, config = job.who.run, plain(job.who.run)
        if found := self.same.get(settings_key(config)):
            return median(found)
        if found := self.per_example.get(size_key(config)):
            with_sizes = sources.load_splits(run)
            n = sum(len(with_sizes[name].examples) for name in trained_on(config) if name in with_sizes)
            return median(found) * (run.source.n or n) * run.epochs
        return None


def plain(run: Run) -> dict[str, Any]:
    """A run's settings as its row would have them."""
    config: dict[str, Any] = json.loads(json.dumps(schema.as_dict(run)))
    return {key: value for key, value in config.items() if key not in ("paths", "logger")}


def settings_key(config: dict[str, Any]) -> str:
    kept = {key: value for key, value in config.items() if key not in APART}
    return json.dumps(kept | {"speed": speed(config)}, sort_keys=True)


def size_key(config: dict[str, Any]) -> tuple[Any, ...]:
    model = config["model"]
    return model["name"], model["path"], config["optim"]["max_length"], *speed(config)


def speed(config: dict[str, Any]) -> tuple[Any, ...]:
    """What of the trainer's settings changes a run's seconds."""
    return tuple(config["trainer"][key] for key in ("precision", "padding", "batching", "test", "compile"))


def trained_on(config: dict[str, Any]) -> list[str]:
    """The splits that a row's run trained on."""
    source = config["source"]["name"]
    sides = sources.splits_read(source)[:-1]
    return sides if source in ("mixed", "small_real") else sides[:-1]


def told(seconds: float) -> str:
    """Seconds, minutes or hours, whichever reads best."""
    for size, unit in ((3600.0, "h"), (60.0, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"
