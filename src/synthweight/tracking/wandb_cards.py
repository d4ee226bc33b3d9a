"""What W&B is told of a run and of its row, in W&B's terms."""

from dataclasses import dataclass
from typing import Any

import numpy as np

ROW = ("labels", "data", "checkers", "temperatures", "version", "provenance", "parquet_sha256")  # of a row, into the config
Drawn = tuple[dict[str, float], np.ndarray]  # of an epoch: its curves by name, its examples' weights


@dataclass(frozen=True)
class Card:
    """What a run is called at W&B, and what it is found by."""

    id: str
    project: str
    name: str
    group: str
    job_type: str
    tags: tuple[str, ...]
    config: dict[str, Any]


def card(run_id: str, config: dict[str, Any], project: str, group: str | None) -> Card:
    """The card of a training, or of an LLM's few-shot classification, by its resolved configuration."""
    dataset, seed = config["dataset"]["name"], config["seed"]
    if "loss" in config:
        kind, source, model = config["loss"]["name"], config["source"]["name"], config["model"]["name"]
    else:
        kind, source, model = "prompt", f"{config['shots']}-shot", config["generator"]["model"]
    tags = tuple(dict.fromkeys(str(tag)[:64] for tag in (dataset, source, model)))  # W&B takes no longer ones
    return Card(run_id, project, f"{kind}-{source}-{seed}", group or "train", kind, tags, config)


def config_of(row: dict[str, Any]) -> dict[str, Any]:
    """What a row adds to the configuration: where it came from, and which Parquet file it is of."""
    return {key: row[key] for key in ROW if key in row}


def summary_of(row: dict[str, Any]) -> dict[str, Any]:
    """The metrics of the epoch that stands, and the seconds of each stage."""
    chosen = row["epochs"][row["selected_epoch"] - 1]
    found: dict[str, Any] = {"selected_epoch": row["selected_epoch"], "guard_hits": row["guard_hits"]}
    for name in ("selection", "test"):
        series = chosen.get(name) or {}
        found |= {f"{name}/{key}": value for key, value in series.items() if isinstance(value, (int, float))}
    return found | {f"seconds/{key}": value for key, value in row["seconds"].items()}
