"""p̂'(y|x) and q̂(y|x): each is a run like any other; its scores are joined by example id.

Which runs they are says `identity.derive`.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow.parquet as pq

from . import encoders, fit, model
from .data.files import beside
from .data.records import Example, data_hash, text_hash
from .data.tokens import tokenize
from .errors import UserError
from .store import SCHEMA, Store, lines

if TYPE_CHECKING:
    from .configs import Run


def scores(store: Store, checker: "Run", run_id: str, examples: tuple[Example, ...], rebuild: Callable[[], None]) -> np.ndarray:
    """log p(y_i|x_i) of the given labels by a finished checker, [n], fp32.

    From the checker's own row if it trained on these examples, else from its scores file, else by its model; where all
    are gone (a clone with rows alone), `rebuild` trains the model again and leaves the row alone.

    Raises:
        UserError: the checker's row knows an example's id by another text.
    """
    labels = store.row(run_id)["labels"]
    known = _own(store, run_id)
    if any(e.id not in known or known[e.id][0] != text_hash(e) for e in examples):
        file = store.run_folder(run_id) / "scores" / f"{data_hash(examples)}.parquet"
        if not file.is_file():
            _compute(store, checker, run_id, examples, tuple(labels), file, rebuild)
        known = _read(file)
    return join(known, examples, labels, run_id)


Known = dict[str, tuple[str, np.ndarray]]  # example id → text hash, log-probabilities of all classes


def join(known: Known, examples: tuple[Example, ...], labels: list[str], run_id: str) -> np.ndarray:
    """Scores by example id, text hash checked; the label comes from the training side."""
    position = {label: i for i, label in enumerate(labels)}
    out = np.empty(len(examples), dtype=np.float32)
    for i, e in enumerate(examples):
        sha, log_probs = known[e.id]
        if sha != text_hash(e):
            raise UserError(f"checker {run_id}: its scores know {e.id} by another text: delete its scores and run again")
        out[i] = log_probs[position[e.label]]
    return out


def _own(store: Store, run_id: str) -> Known:
    table = store.table(run_id)
    return _known(table, "train")


def _read(file: Path) -> Known:
    return _known(pq.read_table(file), "scored")


def _known(table, split: str) -> Known:  # type: ignore[no-untyped-def]
    rows = zip(*(table[c].to_pylist() for c in ("split", "id", "text_sha256", "log_probs")), strict=True)
    return {i: (sha, np.array(p, dtype=np.float32)) for s, i, sha, p in rows if s == split and p is not None}


def _compute(
    store: Store,
    checker: "Run",
    run_id: str,
    examples: tuple[Example, ...],
    labels: tuple[str, ...],
    file: Path,
    rebuild: Callable[[], None],
) -> None:
    """Scores by the checker's model, with its own tokenizer; written whole or not at all."""
    folder = store.run_folder(run_id) / "model"
    if not folder.is_dir():
        rebuild()
    base = encoders.locate(checker.model)
    tokens = tokenize(base, encoders.fingerprint(checker.model), examples, checker.optim.max_length, Path(checker.paths.cache))
    log_probs = fit.log_probs(model.build(folder, labels), tokens, len(labels), checker.trainer.accelerator)
    file.parent.mkdir(parents=True, exist_ok=True)
    part = beside(file)
    pq.write_table(lines("scored", examples, labels, 0, log_probs, None).cast(SCHEMA), part, compression="zstd")
    part.replace(file)
