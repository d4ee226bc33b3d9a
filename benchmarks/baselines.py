"""Tunes CE and the learned weights inside D_P' of product_reviews: the same number of trials for each.

Test is never read.

    python benchmarks/baselines.py                 every method, about two hours on two cores
    python benchmarks/baselines.py ren sungen      some

A trial trains on D_Q and is scored, at its last epoch, on one fold of D_P'; the other four folds are what Hu
et al. and Ren et al. learn by. Eight trials on the first fold, the best two on all five. Each trial is a line
of benchmarks/results/baselines.jsonl, appended when it is done; started again, only what is missing is run.
docs/tuning.md says what was chosen.
"""

import argparse
from dataclasses import replace
from itertools import product
from statistics import fmean, stdev
from typing import Any

import trials

from synthweight.config import compose
from synthweight.config.schema import CONF, ROOT
from synthweight.data import sources, splits
from synthweight.models import pretrained
from synthweight.training.job import TrainingJob
from synthweight.training.trainer import fit

JOURNAL = ROOT / "benchmarks" / "results" / "baselines.jsonl"
FOLDS = 5


def grid(**axes: list[Any]) -> list[dict[str, Any]]:
    return [dict(zip(axes, values, strict=True)) for values in product(*axes.values())]


def hu(lookahead_steps: float) -> list[dict[str, Any]]:
    """The cheap form, by the length of its look-ahead: tuned with theirs first, then again with ours."""
    return [
        {
            "optim.lr": lr,
            "loss.decay": decay,
            "loss.exact": False,
            **dev,
            "loss.lookahead_steps": lookahead_steps,
        }
        for lr in (2e-4, 3e-4)
        for decay in (2.0, 5.0)
        for dev in (
            {"loss.dev_batch": 32},
            {"loss.dev_batch": None, "loss.dev_per_class": 10, "loss.dev_draw": "fixed"},
        )
    ]


SPACE: dict[str, list[dict[str, Any]]] = {
    "ce": grid(**{"optim.lr": [1e-4, 2e-4, 3e-4, 5e-4], "optim.epochs": [3, 5]}),
    "hu": hu(lookahead_steps=1.0),
    "hu far": hu(lookahead_steps=8.0),
    "ren": grid(**{"optim.lr": [1e-4, 2e-4, 3e-4, 5e-4], "loss.lookahead": ["sgd", "adam"]}),
    "sungen": grid(
        **{"loss.proxy": ["head", "lstm"], "loss.outer_lr": [0.25, 0.1], "loss.outer_steps": [30, 100]}
    ),
}
assert {len(points) for points in SPACE.values()} == {8}


def trial(method: str, point: dict[str, Any], fold: int) -> dict[str, Any]:
    """One training on D_Q, scored on a fold of D_P' at its last epoch."""
    settings = [f"{key}={'null' if value is None else value}" for key, value in point.items()]
    with compose.offline(CONF):
        loss = method.split()[0]
        base = [f"loss={loss}", "selection=last", "logger=none"]
        run = compose.Composer("config").run([*base, *settings])
    data = sources.build_run_data(run)
    parts = splits.split_fold(data.dev, splits.assign_folds(data.dev, FOLDS, seed=0), fold)
    train, dev, held = (trials.split(run, data, part) for part in (data.train, *parts))
    job = TrainingJob.from_run(run, pretrained.locate(run.model), data.labels, train, {"fold": held})
    fitted = fit(replace(job, dev=dev))
    found = fitted.epochs[-1].metrics["fold"]
    return {key: round(found[key], 4) for key in ("accuracy", "macro_f1", "nll")}


def ensure(method: str, point: dict[str, Any], fold: int) -> dict[str, Any]:
    key = {"method": method, "point": point, "fold": fold}
    return trials.ensure(JOURNAL, key, lambda: trial(method, point, fold))


def search(method: str) -> dict[str, Any]:
    """Every point on the first fold, the best two on all."""
    first = [ensure(method, point, 0) for point in SPACE[method]]
    first.sort(key=lambda r: (-r["accuracy"], r["nll"]))
    means = []
    for row in first[:2]:
        means.append(
            (fmean(ensure(method, row["point"], fold)["accuracy"] for fold in range(FOLDS)), row["point"])
        )
    return max(means, key=lambda pair: pair[0])[1]


def table(method: str) -> str:
    """One line a point: the first fold, and all five where it got so far."""
    rows = [r for r in trials.done(JOURNAL) if r["method"] == method]
    lines = ["| settings | accuracy, first fold | macro F1 | accuracy, five folds |", "|---|---|---|---|"]
    for point in SPACE[method]:
        here = {r["fold"]: r for r in rows if r["point"] == point}
        if 0 not in here:
            continue
        said = ", ".join(f"{k.split('.')[1]} {'null' if v is None else v}" for k, v in point.items())
        scores = [100 * r["accuracy"] for r in here.values()]
        five = f"{fmean(scores):.1f} ± {stdev(scores):.1f}" if len(here) == FOLDS else "–"
        one = here[0]
        lines.append(f"| {said} | {100 * one['accuracy']:.1f} | {100 * one['macro_f1']:.1f} | {five} |")
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("methods", nargs="*", choices=[*SPACE, []], default=[])
    for name in parser.parse_args().methods or SPACE:
        print(f"{name}: {search(name)}\n{table(name)}", flush=True)
