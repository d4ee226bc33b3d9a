"""What an epoch costs on a busy machine, by the wait policy of OpenMP's threads.

    python benchmarks/busy.py                                     the command's own policy beside libgomp's spinning
    python benchmarks/busy.py --policies spinning passive 2000 10000 --times 5          candidates for that policy
    python benchmarks/busy.py model=mpnet_base model.path=DIR     any overrides of `synthweight train`

Every measurement is a run of the command, `loss=ce` for `--epochs` epochs, alone, beside one process that
never waits, or beside two; policies and loads take turns, `--times` times. The figure is the row's seconds of
training by epochs. Nothing else may run on the machine. Bars on two cores: beside one at most 1.8 x alone,
beside two at most 3 x, alone at most 1.05 x of spinning.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

from synthweight.cli.wait_policy import USERS
from synthweight.config.schema import ROOT

CODE = "from synthweight.cli.main import main; main()"
POLICIES = {
    "spinning": {"GOMP_SPINCOUNT": "300000"},  # libgomp's own number where nothing is set
    "command": {},  # what the command sets
    "passive": {"OMP_WAIT_POLICY": "passive"},
    **{spin: {"GOMP_SPINCOUNT": spin} for spin in ("500", "1000", "2000", "5000", "10000", "20000", "50000")},
}


@contextmanager
def busy(count: int) -> Iterator[None]:
    """Within it, so many processes take all the time that the system gives them."""
    processes = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def epoch_seconds(policy: dict[str, str], epochs: int, overrides: list[str], outputs: Path) -> float:
    """Seconds of training per epoch of one run of the command with this policy."""
    values = ["loss=ce", "logger=none", f"optim.epochs={epochs}", *overrides, f"paths.outputs={outputs}"]
    command = [sys.executable, "-c", CODE, "train", *values]
    own = {*USERS, "OMP_NUM_THREADS"}
    environment = {key: value for key, value in os.environ.items() if key not in own} | policy
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    (row,) = (outputs / "rows").glob("*.json")
    return float(json.loads(row.read_text())["seconds"]["train"]) / epochs


def table(seconds: dict[tuple[str, int], list[float]]) -> Iterator[str]:
    """Medians with their range, and beside what a policy takes alone, and what spinning takes."""
    middle = {key: median(values) for key, values in seconds.items()}
    yield "| policy | busy processes | seconds | × alone | × spinning |"
    yield "|---|---:|---:|---:|---:|"
    for (policy, n), values in seconds.items():
        ratios = [
            f"{middle[policy, n] / middle[other]:.2f}" if other in middle else "–"
            for other in ((policy, 0), ("spinning", n))
        ]
        spread = f"{middle[policy, n]:.1f} ({min(values):.1f}–{max(values):.1f})"
        yield f"| {policy} | {n} | {spread} | {' | '.join(ratios)} |"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--policies", nargs="+", choices=POLICIES, default=["spinning", "command"])
    parser.add_argument("--loads", nargs="+", type=int, default=[0, 1, 2], help="busy processes")
    parser.add_argument("--times", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=2)
    options, overrides = parser.parse_known_args()
    seconds: dict[tuple[str, int], list[float]] = {
        (policy, n): [] for policy in options.policies for n in options.loads
    }
    for turn in range(options.times):
        for n in options.loads:
            for policy in options.policies:
                with busy(n), tempfile.TemporaryDirectory() as folder:
                    spent = epoch_seconds(POLICIES[policy], options.epochs, overrides, Path(folder))
                seconds[policy, n].append(spent)
                print(
                    f"{turn + 1}/{options.times} {policy}, beside {n}: {spent:.1f} s",
                    file=sys.stderr,
                    flush=True,
                )
    print(*table(seconds), sep="\n")


if __name__ == "__main__":
    main()
