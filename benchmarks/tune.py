"""Choose an encoder's recipe (conf/optim) inside D_P' of each benchmark, by cross-entropy.

No test example is read.

    python benchmarks/tune.py minilm DATA --out outputs/tuning [--workers 2] [--datasets financial mrpc ...]

1. `checker`: CE on four of five stratified folds of D_P', scored on the fifth at the last epoch, over a grid
   of learning rates and epochs (`optim.epochs_small_real`).
2. `classifier`: CE on the LLM-written examples, scored on D_P' at the best epoch, over the same learning
   rates (`optim.epochs` stays at the authors' five).

Each trial is an ordinary run of the store in OUT, so a killed search goes on where it stopped, and a run's
"test" is the left-out fold (1) or D_P' (2): the files are written into OUT/sets. The choice of each part is
the point with the highest macro F1, averaged over the benchmarks (accuracy rewards a constant answer where
the classes are unequal). The trials go to benchmarks/results/tuning-MODEL.json; the tables are printed.
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
    "minilm": {"lr": (1e-4, 2e-4, 4e-4), "epochs": (8, 16)},
    "mpnet_base": {"lr": (2e-5, 5e-5, 1e-4), "epochs": (5, 10)},
}
DATASETS = ("product_reviews", "financial", "tweet_irony", "mrpc", "tweet_sentiment", "hyperbole")
FOLDS, SEEDS = 5, (0, 1)


def write_sets(dataset: str, data: str, out: Path) -> dict[str, list[str]]:
    """Fold folders and the folder of part 2, as `dataset=local` reads them; by part, their paths."""
    home = Path(data) / dataset
    small = benchmarks.read_split(home / "small_real.jsonl", "small_real").examples
    fold_of = splits.assign_folds(small, FOLDS, seed=0)
    found: dict[str, list[str]] = {"checker": [], "classifier": []}

    def write(folder: Path, **parts) -> str:
        for name, examples in parts.items():
            rows = [
                {"text": e.text, "label": e.label} | ({"text_pair": e.text_pair} if e.text_pair else {})
                for e in examples
            ]
            folder.mkdir(parents=True, exist_ok=True)
            write_jsonl(folder / f"{name}.jsonl", rows)
        return str(folder)

    for fold in range(FOLDS):
        rest, left = splits.split_fold(small, fold_of, fold)
        found["checker"].append(write(out / f"{dataset}-{fold}", small_real=rest, synthetic=rest, test=left))
    for file in sorted(home.glob("synthetic*.jsonl")):
        if file.stem in ("synthetic", "synthetic_gpt4", "synthetic_llama2"):
            written = benchmarks.read_split(file, "synthetic").examples
            name = f"{dataset}{file.stem.removeprefix('synthetic').replace('_', '-')}"
            found["classifier"].append(write(out / name, small_real=small, synthetic=written, test=small))
    return found


def sweep(name: str, paths: list[str], model: str, options: argparse.Namespace, **values: str) -> None:
    """Run the product of the folders and the values."""
    out = Path(options.out).resolve()
    block = {"dataset.path": ",".join(paths), **values}
    lines = json.dumps(block)  # JSON is YAML
    file = out / f"{name}.yaml"
    file.write_text(
        "defaults: [config, {override dataset: local}, {override logger: none}, {override selection: "
        + ("last" if name == "checker" else "dprime")
        + f"}}, _self_]\nhydra:\n  mode: MULTIRUN\n  sweeper:\n    blocks: [{lines}]\n"
    )
    command = [sys.executable, "-m", "synthweight", "sweep", str(file), f"model={model}", f"paths.outputs={out}",
               "trainer.checkpoint=off", "--workers", str(options.workers), *options.overrides]  # fmt: skip
    subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})


def results(out: Path) -> list[dict]:
    """One entry per trial: part, dataset, lr, epochs, unit (fold or seed), and its scores on real examples
    not trained on.
    """
    found = []
    for path in sorted((out / "rows").glob("*.json")):
        row = json.loads(path.read_text())
        config, source = row["config"], row["config"]["source"]["name"]
        name = Path(config["dataset"]["path"]).name
        part = "checker" if source == "small_real" else "classifier"
        epoch = row["epochs"][row["selected_epoch"] - 1]
        scores = epoch["test"]
        found.append({
            "part": part,
            "dataset": name.rsplit("-", 1)[0] if part == "checker" else name,
            "unit": int(name.rsplit("-", 1)[1]) if part == "checker" else config["seed"],
            "lr": config["optim"]["lr"],
            "epochs": len(row["epochs"]),
            "selected": row["selected_epoch"],
            **{key: round(scores[key], 4) for key in ("accuracy", "macro_f1", "nll")},
        })  # fmt: skip
    return found


def table(trials: list[dict], part: str) -> tuple[str, tuple[float, int]]:
    """Mean accuracy / macro F1 per point and benchmark, and the chosen point."""
    mine = [t for t in trials if t["part"] == part]
    points, datasets = sorted({(t["lr"], t["epochs"]) for t in mine}), sorted({t["dataset"] for t in mine})
    lines = [f"| lr | epochs | {' | '.join(datasets)} | mean |", "|---" * (len(datasets) + 3) + "|"]
    means = {}
    for lr, epochs in points:
        cells = []
        for dataset in datasets:
            of = [t for t in mine if (t["lr"], t["epochs"], t["dataset"]) == (lr, epochs, dataset)]
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
    parser.add_argument("data", help="a folder with DATASET/small_real.jsonl and synthetic*.jsonl")
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
    grid = GRIDS[options.model]
    parts: dict[str, list[str]] = {"checker": [], "classifier": []}
    for dataset in options.datasets:
        for part, paths in write_sets(dataset, options.data, (out / "sets").resolve()).items():
            parts[part] += paths
    rates, epochs = (",".join(f"{v:g}" for v in grid[key]) for key in ("lr", "epochs"))
    chosen = {"optim.lr": rates, "optim.epochs_small_real": epochs}
    sweep("checker", parts["checker"], options.model, options, source="small_real", **chosen, seed="0")
    seeds = ",".join(map(str, SEEDS))
    sweep("classifier", parts["classifier"], options.model, options, **{"optim.lr": rates}, seed=seeds)
    summary.write_text("[\n" + ",\n".join(json.dumps(t) for t in results(out)) + "\n]\n")
    trials = json.loads(summary.read_text())
    tables = {part: table(trials, part) for part in ("checker", "classifier")}
    for part, (lines, best) in tables.items():
        print(f"{part}: best mean macro F1 at lr {best[0]:g}, {best[1]} epochs\n{lines}\n")


if __name__ == "__main__":
    main()
