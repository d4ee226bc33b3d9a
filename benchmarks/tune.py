"""Chooses the recipe of optim/<model>.yaml inside D_P' of product_reviews, by cross-entropy. Test is never read for it.

    python benchmarks/tune.py synthetic      lr and epochs: CE on D_Q, scored on D_P'
    python benchmarks/tune.py small_real     epochs_small_real: CE on four folds of D_P', scored on the fifth
    python benchmarks/tune.py check dataset=financial paths.data=FOLDER     the recipe as it stands, there

Each trial is a line of benchmarks/results/tuning.jsonl, appended when it is done; started again, only what is missing is run. The
tables of docs/tuning.md are written from that file.
"""

import argparse
import dataclasses
from statistics import fmean

import trials

from synthweight import metrics
from synthweight.config import compose
from synthweight.config.schema import ROOT, Run
from synthweight.data import sources, splits
from synthweight.models import pretrained
from synthweight.training import trainer

JOURNAL, PAGE = ROOT / "benchmarks" / "results" / "tuning.jsonl", ROOT / "docs" / "tuning.md"
LRS, EPOCHS = (1e-4, 2e-4, 3e-4, 5e-4), (3, 5)
EPOCHS_SMALL_REAL = (4, 6, 8, 10, 12, 15, 18, 22)
FOLDS = 5


def base(source: str, seed: int, extra: tuple[str, ...] = ()) -> Run:
    with compose.offline(ROOT / "conf"):
        wanted = [f"source={source}", "selection=last", f"seed={seed}", "trainer.precision=bf16-mixed", "logger=none"]
        return compose.Composer("config").run([*wanted, *extra])


def trial(source: str, lr: float | None, epochs: int | None, unit: int, extra: tuple[str, ...] = ()) -> dict:
    """One training scored on real texts that it did not see. `unit` is the seed, or the fold; None = the recipe's."""
    run = base(source, unit if source == "synthetic" else 0, extra)
    optim = dataclasses.replace(run.optim, lr=lr or run.optim.lr)
    material = sources.build(run)
    small = sources.build(dataclasses.replace(run, source=dataclasses.replace(run.source, name="small_real"))).train
    if source == "synthetic":
        train, held = material.train, small
    else:
        train, held = splits.apart(small, splits.folds(small, FOLDS, seed=0), unit)
    training_side, selection = (trials.split(run, material, part) for part in (train, held))
    training = trainer.Training.of(
        run, pretrained.locate(run.model), material.labels, training_side, {"selection": selection},
        optim=optim, epochs=epochs or run.epochs, select=source == "synthetic",
    )  # fmt: skip
    fitted = trainer.fit(training)
    chosen = fitted.epochs[fitted.selected].metrics["selection"]
    floor = metrics.majority(selection[1], material.labels)["accuracy"]
    found = {key: round(chosen[key], 4) for key in ("accuracy", "macro_f1", "nll")} | {"epoch": fitted.selected + 1}
    return found | {"majority": round(floor, 4)}


def check(extra: tuple[str, ...]) -> None:
    """The recipe as it stands on another benchmark: its quality checker by 5-fold inside D_P', CE on D_Q scored on D_P'."""
    rows = [trial("small_real", None, None, fold, extra) for fold in range(FOLDS)]
    for key in ("accuracy", "macro_f1", "majority"):
        print(f"quality checker, {FOLDS}-fold inside D_P', {key}: {fmean(row[key] for row in rows):.3f}", flush=True)
    print("CE on D_Q, scored on D_P':", trial("synthetic", None, None, 0, extra), flush=True)


def ensure(source: str, lr: float, epochs: int, unit: int) -> dict:
    key = {"source": source, "lr": lr, "epochs": epochs, "unit": unit}
    return trials.ensure(JOURNAL, key, lambda: trial(source, lr, epochs, unit))


def search(source: str, space: list[tuple[float, int]], units: int) -> tuple[float, int]:
    """Every point on the first unit, the best two on all."""
    first = [ensure(source, lr, epochs, 0) for lr, epochs in space]
    first.sort(key=lambda r: (-r["accuracy"], r["nll"]))
    means = {}
    for row in first[:2]:
        point = (row["lr"], row["epochs"])
        means[point] = fmean(ensure(source, *point, unit)["accuracy"] for unit in range(units))
    return max(means, key=lambda point: means[point])


def table(source: str) -> str:
    rows = [r for r in trials.done(JOURNAL) if r["source"] == source]
    unit = "seed" if source == "synthetic" else "fold"
    lines = [f"| lr | epochs | {unit} | accuracy | macro F1 | nll | epoch |", "|---|---|---|---|---|---|---|"]
    for r in sorted(rows, key=lambda r: (r["unit"] > 0, r["lr"], r["epochs"], r["unit"])):
        scores = f"{100 * r['accuracy']:.1f} | {100 * r['macro_f1']:.1f} | {r['nll']:.3f} | {r['epoch']}"
        lines.append(f"| {r['lr']:g} | {r['epochs']} | {r['unit']} | {scores} |")
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", choices=("synthetic", "small_real", "check"))
    parser.add_argument("--lr", type=float, default=None, help="small_real: the learning rate that synthetic chose")
    parser.add_argument("overrides", nargs="*", help="check: such as dataset=financial paths.data=FOLDER")
    options = parser.parse_args()
    if options.source == "check":
        check(tuple(options.overrides))
        raise SystemExit
    if options.source == "synthetic":
        best = search("synthetic", [(lr, epochs) for lr in LRS for epochs in EPOCHS], units=3)
    else:
        rate = options.lr or base("small_real", 0).optim.lr
        best = search("small_real", [(rate, epochs) for epochs in EPOCHS_SMALL_REAL], units=FOLDS)
    print(f"best: lr {best[0]:g}, {best[1]} epochs")
    trials.write_page(PAGE, ("synthetic", "small_real"), table)
