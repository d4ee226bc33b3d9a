"""log p̂'(y|x) and log q̂(y|x): the scores of a run's checkers, joined to its examples by their ids.

Each checker is a run like any other; `checker_runs.checker_run` says which.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ..atomic_io import atomic_path
from ..data.examples import Examples, data_hash, text_hash
from ..data.sources import RunData
from ..errors import UserError
from ..models import classifier
from ..training.predict import predict
from . import calibration
from .identity import Identity
from .store import PredictionTable, Store
from .tokens import tokenize_for

Scored = dict[str, tuple[str, np.ndarray]]  # example id → text hash, log-probabilities of all classes


def label_scores(
    role: str,
    data: RunData,
    every: np.ndarray | None,
    folds: Sequence[tuple[Examples, np.ndarray]],
    calibrated: bool,
) -> tuple[np.ndarray, float | None]:
    """log p(y_i|x_i) of the training set's labels, and the temperature by which it was calibrated.

    The scores are those of one checker trained on all of its data, or of k checkers of which each example is
    scored by the one that was not trained on it. A temperature is fitted to the predictions of the k checkers
    on the folds that they left out, so that no label counts that was trained on.

    Args:
        role: "quality" or "diversity", for messages.
        data: of the run.
        every: log p of all classes of the training set by the one checker, [n, classes], fp32; None where
            there are folds alone.
        folds: of each fold's checker the examples that it left out, and its log p of all their classes.
        calibrated: whether to fit a temperature.

    Returns:
        The scores, [n], fp32, and the temperature or None.
    """
    if every is None:
        scored: Scored = {}
        for left_out, values in folds:
            scored |= {e.id: (text_hash(e), v) for e, v in zip(left_out, values, strict=True)}
        every = join(scored, data.train, f"{role} in {len(folds)} folds")
    t = None
    if calibrated:
        targets = np.concatenate([data.targets(left_out) for left_out, _ in folds])
        t = calibration.temperature(np.concatenate([values for _, values in folds]), targets)
        every = calibration.rescale(every, t)
    return every[np.arange(len(every)), data.targets(data.train)], t


def known_log_probs(store: Store, checker: Identity, examples: Examples) -> np.ndarray | None:
    """log p(y|x_i) of all classes by a finished checker, [n, classes], fp32; None where it never scored them.

    They are in the checker's own row if it trained on these examples, else in its scores file. Of a run that
    left a fold out, the row has none of that fold.

    Args:
        store: with the checker's row.
        checker: finished.
        examples: to be scored.

    Raises:
        UserError: the checker's row has an example's id with another text.
    """
    scored = _read(store.parquet(checker.id), "train")
    if any(e.id not in scored or scored[e.id][0] != text_hash(e) for e in examples):
        file = _scores_file(store, checker, examples)
        if not file.is_file():
            return None
        scored = _read(file, "scored")
    return join(scored, examples, checker.id)


def compute_log_probs(store: Store, checker: Identity, examples: Examples) -> np.ndarray:
    """log p(y|x_i) of all classes by a finished checker's model, [n, classes], fp32, kept in a scores file.

    Args:
        store: with the checker's row and model.
        checker: finished; its own tokenizer reads the examples.
        examples: to be scored.
    """
    labels = tuple(store.row(checker.id)["labels"])
    tokens = tokenize_for(checker.run, examples)
    network = classifier.load(store.model_folder(checker.id), labels, tokens)
    log_probs = predict(network, tokens, len(labels), checker.run.trainer)
    file = _scores_file(store, checker, examples)
    with atomic_path(file) as part:
        table = PredictionTable("scored", examples, labels).at_epoch(0, log_probs, None)
        pq.write_table(table, part, compression="zstd")
    return join(_read(file, "scored"), examples, checker.id)


def join(scored: Scored, examples: Examples, checker: str) -> np.ndarray:
    """Log-probabilities of all classes by example id, [n, classes]. Labels are not compared.

    Args:
        scored: at least these examples.
        examples: whose order counts.
        checker: for messages.

    Raises:
        UserError: an id was scored with another text.
    """
    for e in examples:
        if scored[e.id][0] != text_hash(e):
            raise UserError(
                f"checker {checker}: its scores know {e.id} by another text: delete its scores and run again"
            )
    return np.stack([scored[e.id][1] for e in examples])


def _scores_file(store: Store, checker: Identity, examples: Examples) -> Path:
    return store.run_folder(checker.id) / "scores" / f"{data_hash(examples)}.parquet"


def _read(file: Path, split: str) -> Scored:
    """The examples of a split that have log-probabilities, which in a row are those of one epoch."""
    known = (pc.field("split") == split) & pc.field("log_probs").is_valid()
    table = pq.read_table(file, columns=["id", "text_sha256", "log_probs"], filters=known)
    rows = zip(*(table[c].to_pylist() for c in ("id", "text_sha256", "log_probs")), strict=True)
    return {i: (sha, np.array(p, dtype=np.float32)) for i, sha, p in rows}
