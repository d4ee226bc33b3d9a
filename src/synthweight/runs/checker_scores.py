"""p̂'(y|x) and q̂(y|x): each is a run like any other; its scores are joined by example id.

Which runs they are says `checker_runs.checker_run`.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ..atomic_io import atomic_path
from ..data.examples import Examples, data_hash, text_hash
from ..data.sources import RunData, build_run_data
from ..data.tokenization import tokenize
from ..errors import UserError
from ..models import classifier, pretrained
from ..training.predict import predict
from . import calibration
from .store import PredictionTable, Store

if TYPE_CHECKING:
    from ..config.schema import Run
    from .identity import Identity


Ask = Callable[
    ["Identity", Examples], np.ndarray
]  # log p of all classes by one finished checker, [n, classes]
Known = dict[str, tuple[str, np.ndarray]]  # example id → text hash, log-probabilities of all classes


def scores(who: "Identity", role: str, material: RunData, ask: Ask) -> tuple[np.ndarray, float | None]:
    """log p(y_i|x_i) of the training set's labels by a run's checker, [n], fp32, and its temperature where it
    has one.

    The checker is one run trained on all of its data, or (a diversity checker in folds) k runs of which each
    example is scored by the one that did not see it. A temperature is fitted by what the folds' runs say of
    the fold that each left out, so that no label counts that was trained on.
    """
    whole = who.checkers.get(role)
    every = ask(whole, material.train) if whole else None
    folds = [(checker, build_run_data(checker.run).held_out_fold) for checker in who.folds(role)]
    found = [ask(checker, left) for checker, left in folds]
    if every is None:
        told = (
            (e, p)
            for (_, left), values in zip(folds, found, strict=True)
            for e, p in zip(left, values, strict=True)
        )
        known = {e.id: (text_hash(e), p) for e, p in told}
        every = join(known, material.train, f"{role} in {len(folds)} folds")
    t = None
    if folds and who.run.checker.calibrated(role):
        targets = np.concatenate([material.targets(left) for _, left in folds])
        t = calibration.temperature(np.concatenate(found), targets)
        every = calibration.rescale(every, t)
    return every[np.arange(len(every)), material.targets(material.train)], t


def log_probs(
    store: Store, checker: "Run", run_id: str, examples: Examples, rebuild: Callable[[], None]
) -> np.ndarray:
    """log p(y|x_i) of all classes by a finished checker, [n, classes], fp32.

    From the checker's own row if it trained on these examples, else from its scores file, else by its model;
    where all are gone (a clone with rows alone), `rebuild` trains the model again and leaves the row alone.
    Of a run that left a fold out, the own row has none of that fold.

    Raises:
        UserError: the checker's row knows an example's id by another text.
    """
    known = _own(store, run_id)
    if any(e.id not in known or known[e.id][0] != text_hash(e) for e in examples):
        file = store.run_folder(run_id) / "scores" / f"{data_hash(examples)}.parquet"
        if not file.is_file():
            _compute(store, checker, run_id, examples, tuple(store.row(run_id)["labels"]), file, rebuild)
        known = _known(file, "scored")
    return join(known, examples, run_id)


def join(known: Known, examples: Examples, checker: str) -> np.ndarray:
    """Log-probabilities by example id, text hash checked, [n, classes]; whose label counts is the training
    side's affair.
    """
    for e in examples:
        if known[e.id][0] != text_hash(e):
            raise UserError(
                f"checker {checker}: its scores know {e.id} by another text: delete its scores and run again"
            )
    return np.stack([known[e.id][1] for e in examples])


def _own(store: Store, run_id: str) -> Known:
    return _known(store.parquet(run_id), "train")


def _known(file: Path, split: str) -> Known:
    """The lines of a split that have scores: of a row those of one epoch, so that the others' are never made
    Python's.
    """
    scored = (pc.field("split") == split) & pc.field("log_probs").is_valid()
    table = pq.read_table(file, columns=["id", "text_sha256", "log_probs"], filters=scored)
    rows = zip(*(table[c].to_pylist() for c in ("id", "text_sha256", "log_probs")), strict=True)
    return {i: (sha, np.array(p, dtype=np.float32)) for i, sha, p in rows}


def _compute(
    store: Store,
    checker: "Run",
    run_id: str,
    examples: Examples,
    labels: tuple[str, ...],
    file: Path,
    rebuild: Callable[[], None],
) -> None:
    """Scores by the checker's model, with its own tokenizer; written whole or not at all."""
    folder = store.run_folder(run_id) / "model"
    if not folder.is_dir():
        rebuild()
    base = pretrained.locate(checker.model)
    tokens = tokenize(
        base,
        pretrained.fingerprint(checker.model),
        examples,
        checker.optim.max_length,
        Path(checker.paths.cache),
    )
    log_probs = predict(classifier.load(folder, labels, tokens), tokens, len(labels), checker.trainer)
    with atomic_path(file) as part:
        pq.write_table(
            PredictionTable("scored", examples, labels).at_epoch(0, log_probs, None), part, compression="zstd"
        )
