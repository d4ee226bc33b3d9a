"""What a finished run leaves: the parts of its row, its predictions and weights, its model's folder.

The columns of a row's Parquet file are `store.SCHEMA`; a few-shot classification makes its row in
`llm/classify.py`.
"""

from collections.abc import Iterator
from pathlib import Path
from shutil import copymode, rmtree
from typing import Any

import numpy as np
import pyarrow as pa
from torch import nn

from ..atomic_io import part_path
from ..config import schema
from ..config.schema import Run
from ..data.sources import RunData
from ..data.tokenization import load_tokenizer
from ..training.trainer import FitResult
from . import identity as ids
from .store import FORMAT, GROUP, PredictionTable


def describe_run(identity: ids.Identity, data: RunData) -> dict[str, Any]:
    """The first part of a row: which run it is, what it reads, which checkers it has.

    Args:
        identity: of the run.
        data: of the run.
    """
    checkers = {key: checker.id for key, checker in identity.checkers.items()}
    return {
        "format": FORMAT,
        "id": identity.id,
        "version": ids.VERSION,
        "kind": "train",
        "config": public_settings(identity.run),
        "labels": list(data.labels),
        "data": data.record,
        "checkers": dict.fromkeys(("quality", "diversity")) | checkers,
    }


def public_settings(run: Run) -> dict[str, Any]:
    """The resolved configuration without paths and logger."""
    return {key: value for key, value in schema.as_dict(run).items() if key not in ("paths", "logger")}


def describe_training(fitted: FitResult) -> dict[str, Any]:
    """The part of a row that says how each epoch was evaluated, and which one was selected."""
    epochs = [
        {
            "epoch": number,
            "train_loss": epoch.train_loss,
            "selection": epoch.metrics.get("selection"),
            "test": epoch.metrics.get("test"),
        }
        for number, epoch in enumerate(fitted.epochs, start=1)
    ]
    return {"epochs": epochs, "selected_epoch": fitted.selected + 1, "guard_hits": fitted.guard_hits}


def tables(data: RunData, fitted: FitResult, train_log_probs: np.ndarray | None) -> Iterator[pa.Table]:
    """The content of a row's Parquet file, in parts.

    The predictions on test at the selected epoch, then the weights of the training set at every epoch, in
    parts of `GROUP` examples.

    Args:
        data: of the run.
        fitted: its training.
        train_log_probs: of the training set at the selected epoch, [n, classes]; None leaves them out.
    """
    selected = fitted.epochs[fitted.selected]
    test = PredictionTable("test", data.test, data.labels)
    yield test.at_epoch(fitted.selected + 1, selected.log_probs["test"], None)
    n, table = len(data.train), None
    for i, epoch in enumerate(fitted.epochs):
        log_probs = train_log_probs if i == fitted.selected else None
        for start in range(0, n, GROUP):
            part = slice(start, start + GROUP)
            if table is None or n > GROUP:  # a single part serves every epoch
                table = PredictionTable("train", data.train[part], data.labels)
            yield table.at_epoch(i + 1, None if log_probs is None else log_probs[part], epoch.weights[part])


def save_model(network: nn.Module, encoder: Path, folder: Path) -> None:
    """Writes a Hugging Face folder with the tokenizer, whole or not at all.

    Args:
        network: trained, of transformers.
        encoder: the folder that its tokenizer comes from.
        folder: replaced if it exists.
    """
    part = part_path(folder)
    try:
        network.save_pretrained(part)  # type: ignore[operator]
        load_tokenizer(encoder).save_pretrained(part)
        for path in part.iterdir():  # safetensors makes files that only their owner can read
            copymode(part / "config.json", path)
        rmtree(folder, ignore_errors=True)
        part.rename(folder)
    finally:
        rmtree(part, ignore_errors=True)  # after an error, such as a full disk
