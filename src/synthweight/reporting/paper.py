"""The numbers of Kuo et al. (ICLR 2025), to be shown beside ours: `paper_numbers.csv`, from their tables."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..config.llm_schema import Prompt
from .render import ReferenceNumbers
from .rows import Label

if TYPE_CHECKING:
    from ..config.schema import Run

FILE = Path(__file__).with_name("paper_numbers.csv")
LARGER = "bert_large"  # the classifier of the paper's Table 2


def paper_results(dataset: str, metrics: Sequence[str]) -> dict[Label, ReferenceNumbers]:
    """The paper's metrics on a dataset, in %, by the key of `paper_key`.

    Args:
        dataset: Its name.
        metrics: accuracy, macro_f1.
    """
    out: dict[Label, ReferenceNumbers] = {}
    for line in _lines():
        if line["dataset"] == dataset and line["table"] in ("table1", "noisy", "table2"):
            larger = (LARGER, line["diversity_model"]) if line["model"] == LARGER else ()
            out[line["train_source"], line["method"], *larger] = ReferenceNumbers(
                tuple(line[metric] or None for metric in metrics)
            )
    return out


def paper_key(run: "Run | Prompt") -> Label:
    """The paper's name of a run: training data, method and, of a larger classifier, the diversity checker."""
    if isinstance(run, Prompt):
        return "none", "few_shot_llm"
    if run.model.name != LARGER:
        return run.source.name, run.loss.name
    checker = run.checker.diversity.model or LARGER
    return run.source.name, run.loss.name, LARGER, checker if "diversity" in run.loss.needs else ""


def paper_time_ratios() -> dict[str, str]:
    """The paper's total seconds of a loss divided by those of CE, two digits, by loss."""
    totals = {
        line["method"]: float(line["seconds"])
        for line in _lines()
        if (line["table"], line["note"]) == ("timing", "total")
    }
    return {loss: f"{total / totals['ce']:.2f}" for loss, total in totals.items()}


def _lines() -> list[dict[str, str]]:
    with FILE.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))
