"""The synthetic examples, the least supported label first, with duplicates, conflicts and outliers."""

import csv
import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from ..data.duplicates import near_duplicates
from ..data.examples import Example, overlap_key
from ..errors import UserError
from ..models.embeddings import largest_cosine
from .read import labels_by_text

logger = logging.getLogger(__name__)

UNLIKE = 0.99  # quantile of the real examples' own distances from which a synthetic one is unlike all of them
VERDICTS = {
    "real text": "equals a real text, so it was not trained on",
    "conflict": "its text comes with another label too",
    "doubtful label": "the quality checker gives its label a probability below half of chance",
    "near-duplicate": "nearly the text of an example before it",
    "unlike real": "further from every real example than 99 % of the real ones are from each other",
    "fine": "nothing stands out",
}


@dataclass(frozen=True)
class AuditRow:
    """One synthetic example.

    Attributes:
        id: The user's own id, or the row's number.
        text: The text; None where texts are left out.
        text_pair: The second text of a pair.
        label: The given label.
        weight: Its weight in the final training; None where it was not trained on.
        p_label: Calibrated p̂'(label) of the quality checker.
        checker_label: The label that the checker would give.
        p_checker_label: Its calibrated probability.
        duplicate_group: The number of its group of near-duplicates, from 1; None where it has none.
        real_distance: 1 − the largest cosine of its embedding to a real example's.
        verdict: The first of VERDICTS that holds.
    """

    id: str
    text: str | None
    text_pair: str | None
    label: str
    weight: float | None
    p_label: float
    checker_label: str
    p_checker_label: float
    duplicate_group: int | None
    real_distance: float
    verdict: str


COLUMNS = tuple(AuditRow.__dataclass_fields__)


def audit(
    synthetic: Sequence[Example],
    real: Sequence[Example],
    ids: Sequence[str],
    labels: Sequence[str],
    log_probs: Float[ndarray, "n classes"],
    weights: dict[str, float],
    embeddings: tuple[Float[ndarray, "n d"], Float[ndarray, "real d"]],
) -> list[AuditRow]:
    """All synthetic examples, the least supported label first.

    Args:
        synthetic: The examples.
        real: The real ones.
        ids: The user's own ids of the synthetic examples.
        labels: Sorted by name: the classes of `log_probs`.
        log_probs: Of the synthetic examples by the quality checker, calibrated.
        weights: In the final training, by example id.
        embeddings: Of the synthetic and the real examples, rows of length 1.
    """
    given = np.array([labels.index(e.label) for e in synthetic])
    p = np.exp(log_probs)
    p_label, likely = p[np.arange(len(p)), given], p.argmax(axis=1)
    groups = near_duplicates(synthetic)
    distance = 1 - largest_cosine(*embeddings)
    far = distance > np.quantile(1 - largest_cosine(embeddings[1], embeddings[1], others=True), UNLIKE)
    by_text = labels_by_text(synthetic)
    in_real = {overlap_key(e) for e in real}
    size = Counter(group for group in groups.tolist())
    number = {group: i for i, group in enumerate((g for g, n in sorted(size.items()) if n > 1), start=1)}
    seen: set[int] = set()
    rows = []
    for i, e in enumerate(synthetic):
        group = number.get(int(groups[i]))
        key = overlap_key(e)
        holds = {
            "real text": key in in_real,
            "conflict": len(by_text[key]) > 1,
            "doubtful label": p_label[i] < 0.5 / len(labels),
            "near-duplicate": group is not None and group in seen,
            "unlike real": bool(far[i]),
            "fine": True,
        }
        if group is not None:
            seen.add(group)
        weight = weights.get(e.id)
        rows.append(
            AuditRow(
                id=ids[i],
                text=e.text,
                text_pair=e.text_pair,
                label=e.label,
                weight=None if weight is None else float(weight),
                p_label=float(p_label[i]),
                checker_label=labels[likely[i]],
                p_checker_label=float(p[i, likely[i]]),
                duplicate_group=group,
                real_distance=float(distance[i]),
                verdict=next(name for name, true in holds.items() if true),
            )
        )
    return sorted(rows, key=lambda row: row.p_label)


def counts(rows: Iterable[AuditRow]) -> dict[str, int]:
    """How many examples have each verdict, in the order of VERDICTS."""
    found = Counter(row.verdict for row in rows)
    return {verdict: found[verdict] for verdict in VERDICTS if found[verdict]}


def write(path: Path, rows: Iterable[AuditRow], texts: bool = True) -> None:
    """The audit as CSV. texts: whether the examples' texts are in it."""
    columns = [c for c in COLUMNS if texts or c not in ("text", "text_pair")]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        for row in rows:
            writer.writerow([f"{v:.6g}" if isinstance(v := getattr(row, c), float) else v for c in columns])


def read(path: Path) -> list[AuditRow]:
    """An audit that `write` wrote. Raises UserError where it is absent or damaged."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return [_row(record) for record in csv.DictReader(file)]
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file: `synthweight fit` writes it") from error
    except (KeyError, ValueError, csv.Error) as error:
        raise UserError(f"{path}: damaged ({error}): fit again") from error


def _row(record: dict[str, Any]) -> AuditRow:
    return AuditRow(
        id=record["id"],
        text=record.get("text"),
        text_pair=record.get("text_pair") or None,
        label=record["label"],
        weight=float(record["weight"]) if record["weight"] else None,
        p_label=float(record["p_label"]),
        checker_label=record["checker_label"],
        p_checker_label=float(record["p_checker_label"]),
        duplicate_group=int(record["duplicate_group"]) if record["duplicate_group"] else None,
        real_distance=float(record["real_distance"]),
        verdict=record["verdict"],
    )


def summary(rows: Sequence[AuditRow], top: int = 10) -> str:
    """Counts by verdict, and the worst examples, as lines of text."""
    lines = [f"{len(rows)} synthetic examples:"]
    lines += [f"{n:7}  {verdict:15} {VERDICTS[verdict]}" for verdict, n in counts(rows).items()]
    if rows[:top]:
        lines += ["", f"{'id':>8}  {'p(label)':>8}  {'label → checker':25} text"]
    for row in rows[:top]:
        text = " ".join((row.text or "").split())
        labels = f"{row.label} → {row.checker_label}"
        short = text if len(text) <= 80 else f"{text[:80]}…"
        lines.append(f"{row.id:>8}  {row.p_label:8.3f}  {labels:25} {short}")
    return "\n".join(lines)
