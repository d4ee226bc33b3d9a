"""What each loss costs beside cross-entropy: seconds of every stage, measured side by side.

    python benchmarks/overhead.py                         MiniLM at the paper's proportions: D_Q repeated to 38 x |D_P'|
    python benchmarks/overhead.py --proportions ours      at our own sizes
    python benchmarks/overhead.py model=mpnet_base model.path=DIR --texts 512     another encoder, 512 texts

One epoch of each loss, interleaved, `--times` times. Total = QC + DC + scores + learning + epochs x median
epoch; the checkers take as many epochs as the classifier, as the paper's do, whatever
`optim.epochs_small_real` says. Evaluation, tokenisation and imports are not counted. Nothing else may run on
the machine.
"""

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import cycle, islice
from pathlib import Path
from statistics import median

import numpy as np
import trials

from synthweight.config import compose
from synthweight.config.schema import CONF, Run
from synthweight.data import sources
from synthweight.models import classifier, pretrained
from synthweight.training import devices
from synthweight.training.history import Epoch
from synthweight.training.job import TrainingJob
from synthweight.training.predict import predict
from synthweight.training.reporter import RunReporter
from synthweight.training.trainer import fit

LINES = {
    "ce": ["loss=ce"],
    "focal": ["loss=focal"],
    "imp": ["loss=imp"],
    "dimp": ["loss=dimp"],
    "hu": ["loss=hu", "loss.exact=false"],
    "ren": ["loss=ren"],
    "sungen": ["loss=sungen"],
    "hu exact": ["loss=hu", "loss.exact=true"],
}
PROPORTION = 38  # |D_Q| / |D_P'| of the paper's Financial


class Bench:
    """One encoder, one training set, every loss."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        with compose.offline(CONF):
            composer = compose.Composer("config")
            base = ["logger=none", *options.overrides]
            self.runs: dict[str, Run] = {name: composer.run([*base, *LINES[name]]) for name in options.losses}
            run = composer.run([*base, "loss=ce"])
        self.run, self.material = run, sources.build_run_data(run)
        self.folder = pretrained.locate(run.model)
        n = options.texts or (
            PROPORTION * len(self.material.dev)
            if options.proportions == "paper"
            else len(self.material.train)
        )
        texts = tuple(islice(cycle(self.material.train), n))
        parts = texts, self.material.dev, self.material.test[:1]
        self.train, self.dev, self.one = (trials.split(run, self.material, part) for part in parts)
        rng = np.random.default_rng(0)  # a weight's value costs nothing: any scores will do
        longest = max(len(self.train[0]), len(self.dev[0]))  # the quality checker's epoch reads D_P'
        self.scores = {role: -rng.random(longest).astype(np.float32) for role in ("quality", "diversity")}

    def epoch(self, run: Run, train) -> dict[str, float]:  # type: ignore[no-untyped-def]
        """Seconds of one epoch: steps, learning beside them, and learning before them."""
        reporter = TimingReporter()
        job = TrainingJob.from_run(run, self.folder, self.material.labels, train, {"test": self.one})
        fitted = fit(replace(job, epochs=1, seed=0, scores=self.scores, dev=self.dev), reporter)
        learned = fitted.seconds.weights
        before = learned if reporter.phase else 0.0
        return {"train": fitted.seconds.train, "beside": learned - before, "before": before}

    def scoring(self) -> float:
        """Seconds of one pass of a checker over the training set."""
        network = classifier.build(self.folder, self.material.labels)
        started = time.perf_counter()
        predict(network, self.train[0], len(self.material.labels), self.run.trainer)
        return time.perf_counter() - started

    def measure(self) -> dict[str, dict[str, float]]:
        """The medians by loss, and those of the checkers."""
        self.epoch(self.run, self.dev)  # warm
        found: dict[str, list[dict[str, float]]] = {}
        for turn in range(self.options.times):
            found.setdefault("QC epoch", []).append(self.epoch(self.run, self.dev))
            found.setdefault("scoring", []).append({"train": self.scoring()})
            for name, run in self.runs.items():
                once = name in ("hu exact",) and turn > 0
                if not once:
                    found.setdefault(name, []).append(self.epoch(run, self.train))
                    print(f"turn {turn + 1}, {name}: {found[name][-1]}", flush=True)
        return {name: {key: median(r[key] for r in rows) for key in rows[0]} for name, rows in found.items()}


class TimingReporter(RunReporter):
    """Records when epochs end, and whether a learner had a phase before the training."""

    def __init__(self) -> None:
        super().__init__()
        self.ends: list[float] = []
        self.phase = False

    def log(self, message: str, level: int = 20) -> None:
        self.phase = True

    def epoch_finished(self, number: int, epochs: int, epoch: Epoch) -> None:
        self.ends.append(time.perf_counter())


def totals(
    found: dict[str, dict[str, float]], runs: dict[str, Run], epochs: int
) -> dict[str, dict[str, float]]:
    """Seconds of each stage by loss, for a whole training."""
    qc, scoring, ce = (
        epochs * found["QC epoch"]["train"],
        found["scoring"]["train"],
        epochs * found["ce"]["train"],
    )
    out = {}
    for name, run in runs.items():
        needs = run.loss.needs
        row = {
            "QC": qc if "quality" in needs else 0.0,
            "DC": ce + scoring if "diversity" in needs else 0.0,
            "scores": scoring if "quality" in needs else 0.0,
            "learning": found[name]["before"] + epochs * found[name]["beside"],
            "training": epochs * found[name]["train"],
        }
        out[name] = row | {"total": sum(row.values())}
    return out


def table(stages: dict[str, dict[str, float]], found: dict[str, dict[str, float]]) -> str:
    ce = stages["ce"]["total"]
    lines = [
        "| loss | QC | DC | scores | learning | training | total | total / CE | training / CE |",
        "|---|" + "---|" * 8,
    ]
    for name, row in stages.items():
        shown = " | ".join(f"{value:.1f}" for value in row.values())
        ratio = found[name]["train"] / found["ce"]["train"]
        lines.append(f"| {name} | {shown} | {row['total'] / ce:.3f} | {ratio:.3f} |")
    if "imp" in stages:
        shared = stages["imp"]["total"] - stages["imp"]["DC"]
        lines.append(
            f"| imp, the CE run of its seed there | | 0 | | | | {shared:.1f} | {shared / ce:.3f} | |"
        )
    return "\n".join(lines)


def main(read: Callable[[], argparse.Namespace]) -> None:
    options = read()
    bench = Bench(options)
    found = bench.measure()
    stages = totals(found, bench.runs, bench.run.optim.epochs)
    print(f"\n{len(bench.train[0])} texts, {len(bench.dev[0])} of D_P', {bench.run.optim.epochs} epochs, "
          f"precision {bench.run.trainer.precision}, {devices.machine(bench.run.trainer, {})}\n")  # fmt: skip
    print(table(stages, found))
    if options.out:
        Path(options.out).write_text(json.dumps({"median": found, "stages": stages}, indent=1) + "\n")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--proportions", choices=("paper", "ours"), default="paper")
    parser.add_argument("--texts", type=int, help="so many training texts instead")
    parser.add_argument("--times", type=int, default=3)
    parser.add_argument("--losses", nargs="+", choices=LINES, default=list(LINES))
    parser.add_argument("--out", help="a JSON file for the figures")
    parser.add_argument("overrides", nargs="*", help="such as model=mpnet_base")
    options = parser.parse_intermixed_args()
    if "ce" not in options.losses:
        parser.error("--losses without ce: nothing to compare with")
    return options


if __name__ == "__main__":
    main(arguments)
