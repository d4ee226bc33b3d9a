"""How many of the examples that the audit doubts most have a swapped label, beside cleanlab.

A share of the synthetic set's labels is swapped; a quality checker is trained on the real examples and
calibrated out of fold, as `synthweight fit` does it; cleanlab gets the same probabilities (pip install -e
.[bench]).

    python benchmarks/audit_precision.py REAL.jsonl SYNTHETIC.jsonl --share 0.2 --seeds 3
"""

import argparse
import dataclasses
import tempfile
from pathlib import Path

import numpy as np
from cleanlab.filter import find_label_issues
from cleanlab.rank import get_label_quality_scores

from synthweight.data.corruption import corrupt
from synthweight.runs import calibration
from synthweight.workbench import choose
from synthweight.workbench.read import UserData, read_all
from synthweight.workbench.workspace import METHODS, Workspace


def probabilities(workspace: Workspace, data: UserData, folds: int) -> np.ndarray:
    """Calibrated p̂' of every class for the synthetic examples, [n, classes]."""
    cross = choose.Folds(workspace, data, folds)
    choose.train_folds(cross, [METHODS["real"]])
    temperature = calibration.temperature(cross.out_of_fold(METHODS["real"]), cross.targets)
    dataset = workspace.dataset(data.real.examples, data.synthetic.examples, data.real.examples)
    checker = workspace.train(workspace.run(METHODS["real"], dataset))
    return np.exp(calibration.rescale(workspace.score(checker, data.synthetic.examples), temperature))


def swapped(data: UserData, share: float, seed: int) -> UserData:
    """The data with a share of the synthetic labels swapped, by the rule of `corruption.swapped`."""
    examples = corrupt(data.synthetic.examples, data.labels, seed, share, 0.0, 0.0, "", ())
    return dataclasses.replace(data, synthetic=dataclasses.replace(data.synthetic, examples=tuple(examples)))


def found(chosen: np.ndarray, wrong: np.ndarray) -> str:
    """Precision and recall of the chosen positions."""
    hits = wrong[chosen].sum()
    return f"precision {hits / max(1, len(chosen)):6.1%}  recall {hits / wrong.sum():6.1%}  of {len(chosen)} chosen"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("real", type=Path)
    parser.add_argument("synthetic", type=Path)
    parser.add_argument("--share", type=float, default=0.2)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--work", type=Path, default=None)
    parser.add_argument("overrides", nargs="*")
    options = parser.parse_intermixed_args()
    clean = read_all(options.real, options.synthetic)
    for seed in range(options.seeds):
        data = swapped(clean, options.share, seed)
        work = options.work or Path(tempfile.mkdtemp())
        p = probabilities(Workspace(work, seed=seed, overrides=tuple(options.overrides)), data, options.folds)
        wrong = np.array([e.kind == "swapped" for e in data.synthetic.examples])
        given = choose.targets(data.synthetic.examples, data.labels)
        k = round(options.share * len(given))
        print(f"seed {seed}: {wrong.sum()} of {len(wrong)} labels swapped")
        doubted = np.argsort(p[np.arange(len(p)), given])[:k]
        print(f"  audit, worst {options.share:.0%}            {found(doubted, wrong)}")
        margin = get_label_quality_scores(given, p, method="normalized_margin")
        print(f"  cleanlab, margin, worst {options.share:.0%} {found(np.argsort(margin)[:k], wrong)}")
        ranked = find_label_issues(given, p, return_indices_ranked_by="self_confidence")
        print(f"  cleanlab, find_label_issues  {found(ranked, wrong)}", flush=True)


if __name__ == "__main__":
    main()
