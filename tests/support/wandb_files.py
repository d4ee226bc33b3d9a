"""Offline run files of W&B, read back by W&B's own reader: `wandb leet inspect`."""

import json
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

NOISE = pytest.mark.filterwarnings(  # of the client and of the service that it starts
    "ignore::DeprecationWarning:wandb",
    "ignore::ResourceWarning",
    "ignore::pytest.PytestUnraisableExceptionWarning",
)


@dataclass
class Read:
    """What a file says of its run. `history`: a map an epoch, nested keys dotted, less the clock."""

    run: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    exit_code: int | None = None


def timeless(values: dict[str, Any]) -> dict[str, Any]:
    return {
        key: value
        for key, value in values.items()
        if key.split(".")[0] not in ("_timestamp", "_runtime", "_wandb")
    }


def read(file: Path) -> Read:
    done = subprocess.run(
        [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(file)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    found = Read()
    for record in map(json.loads, done.stdout.splitlines()):
        said = record.get(record["type"], {})
        if record["type"] == "run":
            found.run = said
            found.config |= timeless(said["config"]["update"])
        elif record["type"] == "config":
            found.config |= timeless(said["update"])
        elif record["type"] == "summary":
            found.summary |= timeless(said.get("update", {}))
        elif record["type"] == "history":
            found.history.append(timeless(said["item"]))
        elif record["type"] == "exit":
            found.exit_code = said.get("exit_code", 0)
    return found


def files(folder: Path) -> list[Path]:
    """The offline files of a run, by its folder."""
    return sorted(folder.glob("wandb/offline-run-*/*.wandb"))
