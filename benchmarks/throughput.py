"""How fast a fine-tuning is, beside what people would use instead: the same encoder, data, batch size, epochs
and seed.

    ours       this project as it is
    trainer    Hugging Face's Trainer as people use it: dynamic padding, its defaults
    tuned      the same with bf16 and batches grouped by length
    authors    the recipe of the paper's code: padded to 128 tokens, fp32; its speed over 100 steps

    pip install -e '.[bench]'
    python benchmarks/throughput.py                                      product_reviews, five seeds
    python benchmarks/throughput.py --dataset financial mrpc --seeds 3 paths.data=FOLDER

Each training is a process of its own; the systems take turns within a seed. Imports and what lies before the
data are not counted; tokenisation (nothing is cached), the encoder's loading and the evaluation are: test
once, at the end, in batches of 64 texts, in ours of 4,096 tokens. Ours waits as the command does
(`cli/wait_policy.py`), the others as torch does. "steady" is training alone. Peak
memory is the process's own. Nothing else may run on the machine. Each training is a line of --journal;
started again, only what is missing is run. The table of docs/performance.md is written from
benchmarks/results/throughput.jsonl. A ratio there is of trainings of one seed that took turns, or has a mark
(≈) where these were hours apart.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from statistics import mean, median, stdev
from typing import Any

import trials
from hf_trainer import JUDGED, Done, theirs

from synthweight.runs import provenance

SYSTEMS = ("ours", "trainer", "tuned", "authors")
ROOT = Path(__file__).parents[1]
JOURNAL, PAGE = ROOT / "benchmarks" / "results" / "throughput.jsonl", ROOT / "docs" / "performance.md"
STEPS = 100  # of the authors' recipe, where its speed alone is asked for
# a machine wanders: a ratio is of pairs that ended within so long, where there are any
TURN = timedelta(minutes=15)
Found = dict[str, Any]


def one(system: str, overrides: list[str], steps: int | None) -> Found:
    """One training in this process; steps: stop after so many."""
    if system == "ours":
        import synthweight.cli  # noqa: F401, sets the wait policy of the command; before torch
    import torch

    from synthweight.config import compose
    from synthweight.config.schema import CONF
    from synthweight.data import sources
    from synthweight.models import pretrained

    # imports what it needs before the clock starts
    train = ours() if system == "ours" else theirs(system, steps)
    with compose.offline(CONF), tempfile.TemporaryDirectory() as folder:
        job = compose.Composer("config").run([*trials.CE, *overrides])
        data, home = sources.build_run_data(job), pretrained.locate(job.model)
        peak = matmul_peak(torch)
        started = time.perf_counter()
        done = train(job, data, home, Path(folder))
        whole = time.perf_counter() - started
    out = {
        "steady": done.texts / done.seconds,
        "whole": done.texts / whole,
        "share": 6 * inner(done.network) * done.tokens / done.seconds / peak,
        "peak_tflops": peak / 1e12,
        "gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        "seconds": whole,
    }
    if done.test is not None:
        out |= {key: 100 * done.test[key] for key in JUDGED}
        targets = data.targets(data.test)
        out["majority"] = 100 * Counter(targets.tolist()).most_common(1)[0][1] / len(targets)
    return out


def ours() -> Callable[[Any, Any, Path, Path], Done]:
    """A training by this project."""
    from transformers import AutoTokenizer  # noqa: F401, our tokeniser's, which imports it when it is first asked

    from synthweight.training.trainer import fit

    def train(job: Any, data: Any, home: Path, folder: Path) -> Done:
        training = trials.training(job, home, data, folder, ["test"])
        fitted = fit(training)
        texts, tokens = job.epochs * len(data.train), job.epochs * int(training.train[0].lengths.sum())
        return Done(fitted.seconds.train, texts, tokens, fitted.network, fitted.epochs[-1].metrics["test"])

    return train


def inner(network: Any) -> int:
    """Parameters that a token meets in a product: all but the embeddings."""
    return sum(p.numel() for name, p in network.named_parameters() if "embeddings" not in name)


def matmul_peak(torch: Any) -> float:
    """FLOP/s of a bf16 matrix product on this device, the best of some."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    n = 8192 if device == "cuda" else 2048
    a, b = (torch.randn(n, n, dtype=torch.bfloat16, device=device) for _ in range(2))
    best = float("inf")
    for _ in range(8):
        started = time.perf_counter()
        a @ b
        if device == "cuda":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - started)
    return 2 * n**3 / best


def measured(options: argparse.Namespace, key: Found) -> Found:
    """A training in a process of its own."""
    steps = key["steps"]
    wanted = [f"dataset={key['dataset']}", f"seed={key['seed']}", *options.overrides]
    call = [
        sys.executable,
        __file__,
        "--one",
        key["system"],
        *(["--steps", str(steps)] if steps else []),
        *wanted,
    ]
    done = subprocess.run(call, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(
            f"{key}: {done.stderr.strip().splitlines()[-1] if done.stderr.strip() else done.returncode}"
        )
    found = {
        name: round(value, 4) for name, value in json.loads(done.stdout.strip().splitlines()[-1]).items()
    }
    return found | {"commit": provenance.code_version()["commit"], "when": provenance.utc_now()}


def table(rows: list[Found]) -> str:
    lines = [
        "| data | system | examples/s, steady | whole run | ours, × as fast | share of peak | GiB | accuracy | macro F1 |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for dataset in dict.fromkeys(row["dataset"] for row in rows):
        for system in SYSTEMS:
            every = [row for row in rows if (row["dataset"], row["system"]) == (dataset, system)]
            # to the end, where that was asked for too
            here = [row for row in every if row["steps"] is None] or every
            if not here:
                continue
            beside = [row for row in rows if (row["dataset"], row["system"]) == (dataset, "ours")]
            speed = "steady" if system == "authors" else "whole"
            pairs = [(o, h) for o in beside for h in every if o["seed"] == h["seed"]]
            near = [(o, h) for o, h in pairs if apart(o, h) <= TURN]
            ratios = [o[speed] / h[speed] for o, h in near or pairs]
            middle = {k: median(row[k] for row in here) for k in ("steady", "whole", "share", "gib")}
            scores = " | ".join(
                spread(list({row["seed"]: row[k] for row in here if k in row}.values())) for k in JUDGED
            )
            ratio = (
                f"{'' if near else '≈ '}{median(ratios):.2f} ({len(ratios)})"
                if ratios and system != "ours"
                else ""
            )
            whole = "–" if system == "authors" and "accuracy" not in here[0] else f"{middle['whole']:.0f}"
            lines.append(
                f"| {dataset} | {system} | {middle['steady']:.0f} | {whole} | {ratio} | {middle['share']:.0%} "
                f"| {middle['gib']:.2f} | {scores} |"
            )
    made = dict.fromkeys((row["commit"] or "unknown")[:7] for row in rows)
    return "\n".join([*lines, "", f"Seeds in brackets; commits {', '.join(made)}."])


def apart(one: Found, other: Found) -> timedelta:
    return abs(datetime.fromisoformat(one["when"]) - datetime.fromisoformat(other["when"]))


def spread(values: list[float]) -> str:
    if not values:
        return "–"
    return (
        f"{mean(values):.1f} ± {stdev(values):.1f} ({len(values)})"
        if len(values) > 1
        else f"{values[0]:.1f} (1)"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dataset", nargs="+", default=["product_reviews"])
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=list(SYSTEMS))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--whole", action="store_true", help="the authors' recipe to its end, not 100 steps")
    parser.add_argument(
        "--again", action="store_true", help="whether there is a row or not: to take turns in one hour"
    )
    parser.add_argument("--journal", type=Path, default=JOURNAL)
    parser.add_argument("--one", choices=SYSTEMS, help=argparse.SUPPRESS)
    parser.add_argument("--steps", type=int, help=argparse.SUPPRESS)
    parser.add_argument("overrides", nargs="*", help="such as model=mpnet_base")
    options = parser.parse_intermixed_args()
    if options.one:
        print(json.dumps(one(options.one, options.overrides, options.steps)))
        return
    # where files lie changes no result
    named = [of for of in options.overrides if not of.startswith("paths.")]
    options.journal.parent.mkdir(parents=True, exist_ok=True)
    for dataset in options.dataset:
        for seed in range(options.seeds):
            for system in options.systems:
                if system != "authors" or seed == 0:
                    steps = STEPS if system == "authors" and not options.whole else None
                    key = {
                        "dataset": dataset,
                        "system": system,
                        "seed": seed,
                        "steps": steps,
                        "overrides": named,
                    }
                    if options.again:
                        trials.add(options.journal, key | measured(options, key))
                    else:
                        trials.ensure(options.journal, key, lambda key=key: measured(options, key))
    rows = [row for row in trials.done(options.journal) if row["overrides"] == named]
    print(table(rows))
    if options.journal == JOURNAL and not named:
        trials.write_page(PAGE, ["throughput"], lambda _: table(rows))


if __name__ == "__main__":
    main()
