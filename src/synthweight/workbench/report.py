"""`report.html`: one page without network; and the template of the model card."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from . import audit
from .audit import AuditRow

MOST = 5_000  # rows of the audit's table: the worst ones; the CSV has all
BINS = 10
WEIGHT_BINS = 24


def render(template: str, **values: Any) -> str:
    """A template of this package, filled in; HTML is escaped."""
    environment = Environment(
        loader=PackageLoader(__package__, "templates"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=select_autoescape(enabled_extensions=("html", "html.j2")),
    )
    environment.filters["percent"] = lambda value: f"{100 * value:.1f} %"
    return environment.get_template(template).render(**values)


def page(name: str, fit: dict[str, Any], rows: Sequence[AuditRow], texts: bool) -> str:
    """The report of one fit. texts: whether the audit's table shows the synthetic texts."""
    return render(
        "report.html.j2",
        name=name,
        fit=fit,
        counts=audit.counts(rows),
        verdicts=audit.VERDICTS,
        histogram=histogram([row.weight for row in rows if row.weight is not None]),
        total=len(rows),
        rows_shown=min(len(rows), MOST),
        rows_json=table_json(rows[:MOST], texts),
        texts=texts,
    )


def table_json(rows: Sequence[AuditRow], texts: bool) -> str:
    """The table's rows as JSON that may stand in a `<script>` element."""
    values = [
        [
            row.id,
            " ⧸ ".join(t for t in (row.text, row.text_pair) if t) if texts else "",
            row.label,
            row.checker_label,
            round(row.p_label, 4),
            None if row.weight is None else round(row.weight, 4),
            row.duplicate_group,
            round(row.real_distance, 3),
            row.verdict,
        ]
        for row in rows
    ]
    return json.dumps(values, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")


def histogram(weights: Sequence[float]) -> dict[str, Any] | None:
    """Counts of the weights in equal bins up to the 99th percentile; larger ones are in the last bin."""
    if not weights or min(weights) == max(weights):
        return None
    top = float(np.quantile(weights, 0.99)) or max(weights)
    counts, _ = np.histogram(np.clip(weights, None, top), bins=WEIGHT_BINS, range=(0, top))
    return {
        "counts": counts.tolist(),
        "top": top,
        "most": int(counts.max()),
        "zero": sum(w == 0 for w in weights),
        "n": len(weights),
    }


def reliability(log_probs: np.ndarray, targets: np.ndarray) -> list[dict[str, float]]:
    """Mean confidence, accuracy and n of the predictions in equal bins of confidence, less the empty ones."""
    confidence = np.exp(log_probs.max(axis=1))
    right = log_probs.argmax(axis=1) == targets
    place = np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)
    return [
        {
            "confidence": float(confidence[place == b].mean()),
            "accuracy": float(right[place == b].mean()),
            "n": int((place == b).sum()),
        }
        for b in range(BINS)
        if (place == b).any()
    ]
