"""Choose an encoder's recipe (conf/optim) inside D_P' of each benchmark, by cross-entropy. No test example is read.

    python benchmarks/tune.py minilm DATA --out outputs/tuning [--workers 2] [--datasets financial mrpc ...]

CE on four of five stratified folds of D_P', scored on the fifth at the last epoch, over a grid of learning rates and
epochs (`optim.lr`, `optim.epochs_small_real`) that is the same for every benchmark. A training on an LLM-written set
takes about as many steps in the authors' five epochs, so that it shares the learning rate.

Each trial is an ordinary run of the store in OUT, so a killed search goes on where it stopped, and a run's "test" is
the left-out fold: the files are written into OUT/sets. The choice is the point with the highest macro F1, averaged over
the benchmarks (accuracy rewards a constant answer where the classes are unequal). The trials go to
benchmarks/results/tuning-MODEL.json; the table is printed.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from statistics import fmean

from synthweight.config.schema import ROOT
from synthweight.data import benchmarks, splits
from synthweight.data.examples import write_jsonl

GRIDS = {
    "minilm": {"optim.lr": (1e-4, 2e-4, 4e-4), "optim.epochs_small_real": (8, 16)},
    "mpnet_base": {"optim.lr": (2e-5, 5e-5, 1e-4), "optim.epochs_small_real": (5, 10)},
}
DATASETS = ("product_reviews", "financial", "tweet_irony", "mrpc")
FOLDS = 5


def write_folds(dataset: str, data: str, out: Path) -> list[str]:
    """The folders of a benchmark's folds, as `dataset=local` reads them."""
    small = benchmarks.read_split(Path(data) / dataset / "small_real.jsonl", "small_real").examples
    fold_of = splits.assign_folds(small, FOLDS, seed=0)
    folders = []
    for fold in range(FOLDS):
        folder = out / f"{dataset}-{fold}"
        folder.mkdir(parents=True, exist_ok=True)
        rest, left = splits.split_fold(small, fold_of, fold)
        for name, examples in (("small_real", rest), ("test", left)):
            pairs = [{"text_pair": e.text_pair} if e.text_pair else {} for e in examples]
            rows = [
                {"text": e.text, "label": e.label} | pair for e, pair in zip(examples, pairs, strict=True)
            ]
            write_jsonl(folder / f"{name}.jsonl", rows)
        folders.append(str(folder))
    return folders


def sweep(paths: list[str], model: str, options: argparse.Namespace) -> None:
    """Run the product of the folders and the grid."""
    out = Path(options.out).resolve()
    grid = {key: ",".join(f"{value:g}" for value in values) for key, values in GRIDS[model].items()}
    block = {"dataset.path": ",".join(paths), "source": "small_real", "seed": "0", **grid}
    file = out / "folds.yaml"
    file.write_text(
        "defaults: [config, {override dataset: local}, {override logger: none}, _self_]\n"
        f"hydra:\n  mode: MULTIRUN\n  sweeper:\n    blocks: [{json.dumps(block)}]\n"  # JSON is YAML
    )
    command = [sys.executable, "-m", "synthweight", "sweep", str(file), f"model={model}", f"paths.outputs={out}",
               "trainer.checkpoint=off", "--workers", str(options.workers), *options.overrides]  # fmt: skip
    subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})


def results(out: Path) -> list[dict]:
    """One entry per trial: dataset, fold, lr, epochs, and its scores on the fold that was left out."""
    found = []
    for path in sorted((out / "rows").glob("*.json")):
        row = json.loads(path.read_text())
        dataset, fold = Path(row["config"]["dataset"]["path"]).name.rsplit("-", 1)
        scores = row["epochs"][row["selected_epoch"] - 1]["test"]
        found.append({
            "dataset": dataset, "fold": int(fold), "lr": row["config"]["optim"]["lr"], "epochs": len(row["epochs"]),
            **{key: round(scores[key], 4) for key in ("accuracy", "macro_f1", "nll")},
        })  # fmt: skip
    return sorted(found, key=lambda trial: [str(value) for value in trial.values()])


def table(trials: list[dict]) -> tuple[str, tuple[float, int]]:
    """Mean accuracy / macro F1 per point and benchmark, and the chosen point."""
    points = sorted({(t["lr"], t["epochs"]) for t in trials})
    datasets = [name for name in DATASETS if any(t["dataset"] == name for t in trials)]
    lines = [f"| lr | epochs | {' | '.join(datasets)} | mean |", "|---" * (len(datasets) + 3) + "|"]
    means = {}
    for lr, epochs in points:
        cells = []
        for dataset in datasets:
            of = [t for t in trials if (t["lr"], t["epochs"], t["dataset"]) == (lr, epochs, dataset)]
            cells.append((fmean(t["accuracy"] for t in of), fmean(t["macro_f1"] for t in of)))
        means[lr, epochs] = fmean(f1 for _, f1 in cells)
        shown = [*cells, (fmean(a for a, _ in cells), means[lr, epochs])]
        lines.append(
            f"| {lr:g} | {epochs} | " + " | ".join(f"{100 * a:.1f} / {100 * f:.1f}" for a, f in shown) + " |"
        )
    return "\n".join(lines), max(points, key=lambda point: means[point])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", choices=GRIDS)
    parser.add_argument("data", help="a folder with DATASET/small_real.jsonl")
    parser.add_argument("--out", default="outputs/tuning")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--datasets", nargs="+", default=DATASETS)
    parser.add_argument(
        "--results", help="where the summary goes, unless benchmarks/results/tuning-MODEL.json"
    )
    parser.add_argument(
        "overrides", nargs="*", help="key=value for every trial, such as model.path=FOLDER", default=[]
    )
    options = parser.parse_intermixed_args()
    summary = Path(options.results or ROOT / "benchmarks" / "results" / f"tuning-{options.model}.json")
    out = Path(options.out)
    out.mkdir(parents=True, exist_ok=True)
    folds = [
        path
        for name in options.datasets
        for path in write_folds(name, options.data, (out / "sets").resolve())
    ]
    sweep(folds, options.model, options)
    trials = results(out)
    summary.write_text("[\n" + ",\n".join(json.dumps(t) for t in trials) + "\n]\n")
    lines, best = table(trials)
    print(f"best mean macro F1 at lr {best[0]:g}, {best[1]} epochs\n{lines}")


if __name__ == "__main__":
    main()
