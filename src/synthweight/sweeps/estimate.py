"""How long a run may take, from finished rows.

From those that differ by the seed alone, else from the same model's, scaled by size.
"""

import json
from statistics import median
from typing import Any

from ..config import schema
from ..config.schema import Run
from ..data import sources
from ..runs.store import Store
from .plan import Job

# of the trainer's settings: they change hardly a step's seconds
IRRELEVANT = ("threads", "checkpoint", "keep_model")


class RunTimes:
    """Seconds of finished runs, on whichever machine they ran.

    Args:
        store: The folder of outputs.
    """

    def __init__(self, store: Store) -> None:
        self.same: dict[str, list[float]] = {}  # seconds by settings apart from the seed
        # seconds an example and epoch, by encoder, length and trainer
        self.per_example: dict[str, list[float]] = {}
        for run_id in sorted(store.ids()):
            row = store.row(run_id)
            # seconds shared by several runs
            if row["kind"] != "train" or row["provenance"]["stacked"]:
                continue
            config, seconds = row["config"], sum(row["seconds"].values())
            self.same.setdefault(settings_key(config), []).append(seconds)
            splits = trained_splits(config)
            n = sum(split["n"] - split["dropped"] for name, split in row["data"].items() if name in splits)
            examples = (config["source"]["n"] or n) * len(row["epochs"])
            if examples:
                self.per_example.setdefault(size_key(config), []).append(seconds / examples)

    def estimate(self, job: Job) -> float | None:
        """Seconds that a job may take, or None where no finished row says anything about it."""
        run = job.identity.run
        if not isinstance(run, Run):
            return None
        config = as_row(run)
        if found := self.same.get(settings_key(config)):
            return median(found)
        if found := self.per_example.get(size_key(config)):
            splits = sources.load_splits(run)
            n = sum(len(splits[name].examples) for name in trained_splits(config) if name in splits)
            return median(found) * (run.source.n or n) * run.epochs
        return None


def as_row(run: Run) -> dict[str, Any]:
    """A run's settings as its row would have them."""
    config: dict[str, Any] = json.loads(json.dumps(schema.as_dict(run)))
    return {key: value for key, value in config.items() if key not in ("paths", "logger")}


def settings_key(config: dict[str, Any]) -> str:
    """What runs have in common that differ by the seed alone."""
    kept = {key: value for key, value in config.items() if key not in ("seed", "trainer")}
    return json.dumps(kept | {"trainer": trainer_key(config)}, sort_keys=True)


def size_key(config: dict[str, Any]) -> str:
    """What runs have in common whose seconds are in proportion to their examples and epochs."""
    model = config["model"]
    return json.dumps([model["name"], model["path"], config["optim"]["max_length"], trainer_key(config)])


def trainer_key(config: dict[str, Any]) -> dict[str, Any]:
    """The trainer's settings that change a step's seconds."""
    return {key: value for key, value in sorted(config["trainer"].items()) if key not in IRRELEVANT}


def trained_splits(config: dict[str, Any]) -> list[str]:
    """The splits that a row's run trained on."""
    source = config["source"]["name"]
    sides = sources.splits_read(source)[:-1]
    return sides if source in ("mixed", "small_real") else sides[:-1]
