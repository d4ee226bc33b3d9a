"""`report.html`: one page without network; and the template of the model card."""

from collections.abc import Sequence
from typing import Any

from ..reporting import pages
from . import audit
from .audit import AuditRow

MOST = 5_000  # rows of the audit's table: the worst ones; the CSV has all


def render(template: str, **values: Any) -> str:
    """A template of this package, filled in."""
    return pages.render(template, __package__, **values)


def page(name: str, fit: dict[str, Any], rows: Sequence[AuditRow], texts: bool) -> str:
    """The report of one fit. texts: whether the audit's table shows the synthetic texts."""
    return render(
        "report.html.j2",
        name=name,
        fit=fit,
        counts=audit.counts(rows),
        verdicts=audit.VERDICTS,
        histogram=pages.histogram([row.weight for row in rows if row.weight is not None]),
        total=len(rows),
        audit_table=audit_table(rows[:MOST], texts),
    )


def audit_table(rows: Sequence[AuditRow], texts: bool) -> dict[str, Any]:
    """The table of the examples, the least supported labels first."""
    columns = [
        ("id", "text"),
        *([("text", "long")] if texts else []),
        ("label", "text"),
        ("checker's label", "text"),
    ]
    columns += [(title, "number") for title in ("p(label)", "weight", "duplicates", "distance")]
    columns.append(("verdict", "verdict"))
    values = [
        [
            row.id,
            *([" ⧸ ".join(t for t in (row.text, row.text_pair) if t)] if texts else []),
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
    titles = [title for title, _ in columns]
    filters = [titles.index("verdict"), titles.index("label")]
    return pages.long_table(columns, values, titles.index("p(label)"), filters)
