"""Does the cheap form of Hu et al. rank a batch's examples as the exact one does? On product_reviews, per 50
steps.

    python benchmarks/agreement.py                      MiniLM, the cheap form's training, the exact response at every 10th step
    python benchmarks/agreement.py --every 5 seed=1

Both responses are taken at the same step: the same parameters, Adam state, weights and batch of D_P'.
Spearman's rank correlation within the sub-batches that the exact form looks ahead with, and the share of
examples whose response has the same sign. Prints a table. Test is never read.
"""

import argparse
from dataclasses import asdict, dataclass, replace
from itertools import groupby
from statistics import fmean, stdev

import trials
from scipy.stats import spearmanr
from torch import Tensor

from synthweight.config import compose
from synthweight.config.schema import CONF
from synthweight.data import sources
from synthweight.losses import LearnerContext
from synthweight.losses.hu import Hu
from synthweight.losses.meta.gradients import Lookahead
from synthweight.losses.meta.hu import HuLearner
from synthweight.models import pretrained
from synthweight.training.job import TrainingJob
from synthweight.training.trainer import fit

SPAN = 50
found: list[dict[str, float]] = []


@dataclass
class Both(Hu):
    """Trains by the cheap form, and at some steps asks the exact one too."""

    every: int

    def learner(self, context: LearnerContext) -> "BothLearner":
        return BothLearner(self, context)


class BothLearner(HuLearner):
    settings: Both

    def response(self, lookahead: Lookahead, batch: dict[str, Tensor]) -> Tensor:
        cheap, step = self.approximate(lookahead, batch), int(self.step)
        if step % self.settings.every == 0:
            n, size = len(batch["index"]), self.settings.sub_batch
            # the official code ranks within sub-batches: each has a look-ahead of its own
            for start in range(0, n, size):
                rows = list(range(start, min(start + size, n)))
                exact = self.exact(lookahead, batch, rows)
                part = cheap[rows]
                if len(rows) > 2:
                    same = ((exact > 0) == (part > 0)).double().mean()
                    found.append({"step": step, "rho": float(spearmanr(exact, part)[0]), "sign": float(same)})
            print(f"step {step}: {fmean(f['rho'] for f in found if f['step'] == step):.2f}", flush=True)
        return cheap


def train(every: int, overrides: list[str]) -> None:
    with compose.offline(CONF):
        base = ["loss=hu", "loss.exact=false", "selection=last"]
        job = compose.Composer("config").run([*base, "logger=none", *overrides])
    data, folder = sources.build_run_data(job), pretrained.locate(job.model)
    assert isinstance(job.loss, Hu)
    both = Both(**asdict(job.loss), every=every)
    train, dev = (trials.split(job, data, part) for part in (data.train, data.dev))
    training = TrainingJob.from_run(job, folder, data.labels, train, {"dev": dev})
    fit(replace(training, strategy=both, dev=dev))


def table(rows: list[dict[str, float]]) -> str:
    lines = [
        "| steps | Spearman, mean ± sd over sub-batches of 8 | same sign | sub-batches |",
        "|---|---|---|---|",
    ]
    for span, group in groupby(rows, key=lambda r: int(r["step"]) // SPAN):
        here = list(group)
        rho = [r["rho"] for r in here]
        sign = fmean(r["sign"] for r in here)
        spread = f"{fmean(rho):.2f} ± {stdev(rho):.2f}" if len(rho) > 1 else f"{rho[0]:.2f}"
        lines.append(f"| {span * SPAN}–{span * SPAN + SPAN - 1} | {spread} | {sign:.0%} | {len(here)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--every", type=int, default=10)
    parser.add_argument("overrides", nargs="*", help="such as seed=1")
    options = parser.parse_intermixed_args()
    train(options.every, options.overrides)
    print(table(found))
