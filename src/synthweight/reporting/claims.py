"""Claims about losses, each judged by the rows of a sweep: confirmed, refuted or undecided.

`outputs/claims.yaml` lists them. A claim compares two kinds of runs on each dataset, and over all of them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import stdev
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml

from ..config import bind
from ..errors import UserError
from .render import Interval
from .rows import Row, RowLabeler, RowSet
from .significance import LEVEL, Difference, difference, paired_t, pooled
from .tables.results import MIN_SEEDS, read_test
from .tables.timing import run_seconds

if TYPE_CHECKING:
    from ..config.schema import Run

MEASURES = ("accuracy", "macro_f1", "wobble", "seconds")


@dataclass(frozen=True)
class Claim:
    """What is claimed of two kinds of runs, first and second.

    Attributes:
        claim: The sentence, as the paper or its readers have it.
        sweep: The words after `synthweight tables`: whose rows decide.
        first: The settings, by dotted key, that all runs of the first kind have; of a list, one of its values.
        second: The same of the second; runs of both with one seed are compared.
        measure: `accuracy` or `macro_f1` at the selected epoch; `wobble`, the standard deviation of test accuracy
            over the epochs; `seconds`, checkers included.
        smaller: The claim is that the first's measure is the smaller one.
        margin: The first may be worse by this, in points (of `seconds`: in per cent): "as good as", "little more".
        setting: What differs from the paper's setting.
    """

    claim: str
    sweep: str
    first: dict[str, Any]
    second: dict[str, Any]
    measure: str = "accuracy"
    smaller: bool = False
    margin: float = 0.0
    setting: str = ""

    def __post_init__(self) -> None:
        if self.measure not in MEASURES:
            raise UserError(
                f"claim {self.claim!r}: no measure {self.measure}; there are {', '.join(MEASURES)}"
            )


@dataclass(frozen=True)
class Judgement:
    """What the rows say of a claim.

    Attributes:
        by_dataset: The difference of each dataset where both kinds share five seeds, in points or per cent.
        overall: The only one of them, or the pooled one; None where there is none.
        seeds: How many seeds each difference rests on.
        verdict: `confirmed`, `refuted`, `undecided`, or `no rows yet`.
    """

    by_dataset: dict[str, Difference] = field(default_factory=dict)
    overall: Difference | None = None
    seeds: tuple[int, ...] = ()
    verdict: str = "no rows yet"


def read_claims(path: Path) -> list[Claim]:
    """The claims of a YAML file: a list of mappings. Raises UserError where one has an unknown or lacks a key."""
    content: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
    if not isinstance(content, list):
        raise UserError(f"{path}: a list of claims")
    out = []
    for number, each in enumerate(content, 1):
        try:
            one = Claim(**each)
        except TypeError as error:
            raise UserError(f"{path}: claim {number}: {error}".replace("Claim.__init__() ", "")) from None
        if unknown := sorted((one.first.keys() | one.second.keys()) - bind.keys().keys()):
            raise UserError(f"{path}: claim {number}: {unknown[0]}: no such setting")
        out.append(one)
    return out


def judge_claim(claim: Claim, rows: RowSet) -> Judgement:
    """Compares the two kinds of runs on each dataset by seed, and over the datasets.

    Accuracy and macro F1 are tested by `significance.difference`; `wobble` and the logarithm of `seconds` by a
    paired t test over seeds. Over datasets by `significance.pooled`. With p < 0.05, and the interval on one side of
    the margin, a claim is confirmed or refuted, else undecided.

    Raises:
        UserError: A seed comes twice in one kind on one dataset: the claim's settings do not name one kind of runs.
    """
    found: dict[str, Difference] = {}
    counts: set[int] = set()
    for dataset in rows.datasets:
        first, second = (matching(claim, rows, wanted, dataset) for wanted in (claim.first, claim.second))
        seeds = sorted(first.keys() & second.keys())
        if len(seeds) >= MIN_SEEDS:
            pairs = [(first[seed], second[seed]) for seed in seeds]
            found[dataset] = compare(claim.measure, rows, pairs)
            counts.add(len(seeds))
    if not found:
        return Judgement()
    overall = next(iter(found.values())) if len(found) == 1 else pooled(list(found.values()))
    shown = {dataset: scaled(d, claim.measure) for dataset, d in found.items()}
    overall = overall and scaled(overall, claim.measure)
    return Judgement(shown, overall, tuple(sorted(counts)), verdict(claim, overall))


def matching(claim: Claim, rows: RowSet, wanted: dict[str, Any], dataset: str) -> dict[int, Row]:
    """The finished rows of a dataset whose runs have the wanted settings, by seed."""
    out: dict[int, Row] = {}
    for r, run in rows.trained:
        if rows.dataset(run) == dataset and r.id in rows.rows and has(run, wanted):
            if run.seed in out:
                raise UserError(
                    f"claim {claim.claim!r}: {wanted} is true of several runs of {dataset} with seed {run.seed}: "
                    "name the setting that tells them apart"
                )
            out[run.seed] = rows.rows[r.id]
    return out


def has(run: "Run", wanted: dict[str, Any]) -> bool:
    """Whether a run has all wanted settings; of a list of values, one of them."""
    settings = RowLabeler.settings(run)
    return all(
        settings.get(key) in (value if isinstance(value, list) else [value]) for key, value in wanted.items()
    )


def compare(measure: str, rows: RowSet, pairs: Sequence[tuple[Row, Row]]) -> Difference:
    """The difference of two kinds of runs on one dataset, one pair per seed."""
    if measure in ("accuracy", "macro_f1"):
        classes = pairs[0][0]["labels"]
        read = [
            [read_test(rows.store, row["id"], classes) for row in kind] for kind in zip(*pairs, strict=True)
        ]
        first, second = (np.stack([predicted for _, predicted in kind]) for kind in read)
        return difference(first, second, read[0][0][0], len(classes), measure)
    if measure == "wobble":
        return paired_t([wobble(a) - wobble(b) for a, b in pairs])
    seconds = run_seconds(rows)
    return paired_t([float(np.log(seconds[a["id"]].total / seconds[b["id"]].total)) for a, b in pairs])


def wobble(row: Row) -> float:
    """The standard deviation of accuracy on test over the epochs. Raises UserError where only one was evaluated."""
    if len(row["epochs"]) < 2 or any(epoch["test"] is None for epoch in row["epochs"]):
        raise UserError(
            f"row {row['id']} has no test metrics after each epoch: the claim needs trainer.test=epoch, and two epochs"
        )
    return stdev(epoch["test"]["accuracy"] for epoch in row["epochs"])


def scaled(d: Difference, measure: str) -> Difference:
    """A difference in points; of `seconds` in per cent of the second, from the logarithm of the ratio."""
    convert: Callable[[float], float]
    convert = (lambda x: 100 * float(np.expm1(x))) if measure == "seconds" else (lambda x: 100 * x)
    slope = 100 * float(np.exp(d.mean)) if measure == "seconds" else 100.0
    return Difference(convert(d.mean), convert(d.low), convert(d.high), d.p, d.ddf, slope * d.standard_error)


def verdict(claim: Claim, d: Difference | None) -> str:
    """Confirmed or refuted where the 95 % interval lies on one side of the margin."""
    if d is None:
        return "undecided"
    low, high = (-d.high, -d.low) if claim.smaller else (d.low, d.high)
    if claim.margin:
        return "confirmed" if low > -claim.margin else "refuted" if high < -claim.margin else "undecided"
    if d.p >= LEVEL:
        return "undecided"
    return "confirmed" if low > 0 else "refuted"


def to_markdown(claims: Sequence[Claim], judgements: Sequence[Judgement]) -> str:
    """The table of claims, and the differences of each dataset below."""
    lines = [
        "| claim | difference [95 % interval], p | datasets, seeds | verdict | what differs from the paper |",
        "|---|---|---|---|---|",
    ]
    details = []
    for claim, judged in zip(claims, judgements, strict=True):
        unit = " (%)" if claim.measure == "seconds" else ""
        seeds = " to ".join(map(str, sorted({*judged.seeds[:1], *judged.seeds[-1:]})))
        n = f"{len(judged.by_dataset)}, {seeds}" if judged.seeds else "–"
        shown = f"{interval(judged.overall)}{unit}" if judged.overall else "–"
        lines.append(f"| {claim.claim} | {shown} | {n} | **{judged.verdict}** | {claim.setting} |")
        if len(judged.by_dataset) > 1:
            each = "; ".join(f"{name} {interval(d)}" for name, d in judged.by_dataset.items())
            details.append(f"- {claim.claim}: {each}.")
    return "\n".join([*lines, "", *details]).rstrip() + "\n"


def interval(d: Difference) -> Interval:
    """A difference as a cell."""
    return Interval(d.mean, d.low, d.high, d.p, 1)
