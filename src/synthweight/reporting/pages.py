"""Pages of one file: the templates with their common frame, style and script, and values for their tables.

A page loads nothing: it opens from a disk without a network. The workbench's report extends the same frame.
"""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined, select_autoescape

PAGE_LINES = 50  # of a long table at a time
BINS = 10
WEIGHT_BINS = 24


def render(template: str, package: str = __package__, **values: Any) -> str:
    """A template, filled in; HTML is escaped.

    Args:
        template: Its file name.
        package: The package whose `templates` folder has it; this package's templates can be extended by it.
        values: Its variables.
    """
    environment = Environment(
        loader=ChoiceLoader([PackageLoader(package), PackageLoader(__package__)]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=select_autoescape(enabled_extensions=("html", "html.j2")),
    )
    environment.filters["percent"] = lambda value: f"{100 * value:.1f} %"
    environment.filters["script_json"] = script_json
    return environment.get_template(template).render(**values)


def script_json(value: Any) -> str:
    """A value as JSON that may stand in a `<script>` element."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).replace(
        "<", "\\u003c"
    )


def long_table(
    columns: Sequence[tuple[str, str]],
    rows: Sequence[Sequence[Any]],
    sort: int = 0,
    filters: Sequence[int] = (),
    descending: bool = False,
    condensed: Sequence[int] = (),
) -> dict[str, Any]:
    """A table that the page's script shows in parts, sorted, searched and filtered.

    A column with holes alone is left out.

    Args:
        columns: (title, kind) of each. Kinds: `text`; `long`, which wraps; `number`; `verdict`, a text with a class
            of its own; `interval`, whose value is [mean, low, high].
        rows: A value per column; None for a hole.
        sort: The column that it is sorted by at first; -1 for the order of the rows.
        filters: Columns by whose values its rows can be chosen.
        descending: Whether it is sorted downwards at first.
        condensed: Columns that are left out where they have one value.
    """
    kept = [
        i
        for i in range(len(columns))
        if any(row[i] is not None for row in rows)
        and not (i in condensed and len({row[i] for row in rows}) == 1)
    ]
    place = {i: k for k, i in enumerate(kept)}
    return {
        "columns": [columns[i] for i in kept],
        "rows": [[row[i] for i in kept] for row in rows],
        "sort": place.get(sort, -1),
        "direction": -1 if descending else 1,
        "filters": [place[i] for i in filters if i in place],
        "page": PAGE_LINES,
    }


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


def confusion(true: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """How often each class (row) was predicted as each (column)."""
    return np.bincount(true * classes + predicted, minlength=classes**2).reshape(classes, classes)
