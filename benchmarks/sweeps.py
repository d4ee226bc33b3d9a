"""What a sweep costs besides its trainings: real runs of one command, one after another, their own seconds
subtracted.

    python benchmarks/sweeps.py                     8, 32 and 128 runs of a tiny encoder: does the cost grow with the runs alone?
    python benchmarks/sweeps.py --sweep demo        a sweep of sweeps/, into a folder of its own: its wall time by its trainings
    python benchmarks/sweeps.py --sweep demo --workers 1 2      the same by one worker, then by two with half the cores each

"Trainings" are the seconds of the rows: data, scores, learned weights, steps and evaluations. "Start" is the
time from the command to the first run; "between" what is left, by run: Hydra, identity, encoder, row and
model on disk.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from synthweight.config.schema import ROOT

sys.path.insert(0, str(ROOT / "tests"))
from support.toy import make_encoder, make_toy

SIZES = {"small_real": 60, "test": 60, "synthetic": 120}
SWEEP = """\
defaults: [config, {{override dataset: local}}, {{override logger: none}}, _self_]
hydra:
  mode: MULTIRUN
  sweeper:
    blocks:
      - {{source: synthetic, loss: "ce,focal", seed: "range(0,{seeds})"}}
"""
BEGUN = "epoch 1/"


@dataclass
class Measured:
    runs: int
    wall: float
    # seconds until the first run's first epoch, less what its row calls data, scores and that epoch's share
    first: float
    trainings: float

    def __str__(self) -> str:
        rest = self.wall - self.trainings - self.first
        return (
            f"| {self.runs} | {self.wall:.1f} | {self.first:.1f} | {self.trainings:.1f} | {rest / self.runs:.2f} "
            f"| {self.wall / self.trainings:.3f} |"
        )


def measure(sweep: str, overrides: list[str], outputs: Path, workers: int = 1) -> Measured:
    """Runs a sweep into an empty folder; by several workers all but its wall time is the first run's alone."""
    command = [
        sys.executable,
        "-m",
        "synthweight",
        "sweep",
        sweep,
        "--workers",
        str(workers),
        *overrides,
        f"paths.outputs={outputs}",
    ]
    # which the tests' own file sets to 1
    env = {key: value for key, value in os.environ.items() if key != "OMP_NUM_THREADS"}
    started, begun = time.time(), 0.0
    with subprocess.Popen(
        command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as running:
        assert running.stdout is not None
        said = []
        for line in running.stdout:
            said.append(line)
            begun = begun or (time.time() if BEGUN in line else 0.0)
    wall = time.time() - started
    if running.returncode:
        raise SystemExit("".join(said[-5:]))
    rows = [json.loads(path.read_text()) for path in (outputs / "rows").glob("*.json")]
    rows.sort(key=lambda row: row["provenance"]["started"])
    seconds = rows[0]["seconds"]
    epoch = (seconds["train"] + seconds["evaluate"]) / len(rows[0]["epochs"])
    before = seconds["prepare"] + seconds["scores"] + epoch
    return Measured(
        len(rows), wall, begun - started - before, sum(sum(row["seconds"].values()) for row in rows)
    )


def tiny(folder: Path, runs: int) -> Measured:
    (folder / "many.yaml").write_text(SWEEP.format(seeds=runs // 2))
    values = [
        f"dataset.path={folder / 'toy'}", f"model.path={folder / 'tiny'}", "optim.epochs=2", "optim.batch_size=16",
        "optim.max_length=32", "trainer.accelerator=cpu", f"paths.cache={folder / 'cache'}",
    ]  # fmt: skip
    return measure(str(folder / "many.yaml"), values, folder / f"outputs{runs}")


def beside(sweep: str, overrides: list[str], counts: list[int]) -> None:
    """A sweep's wall time by the number of its workers, which divide the cores among them."""
    print("| workers | runs | wall, s | × as fast |\n|---|---|---|---|")
    walls: list[float] = []
    for workers in counts:
        with tempfile.TemporaryDirectory() as folder:
            # nothing that the count before has left
            mine = [f"paths.cache={Path(folder) / 'cache'}", *overrides]
            found = measure(sweep, mine, Path(folder) / "outputs", workers)
        walls.append(found.wall)
        print(f"| {workers} | {found.runs} | {found.wall:.1f} | {walls[0] / found.wall:.2f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, nargs="+", default=[8, 32, 128])
    parser.add_argument("--sweep", help="a sweep instead, such as demo")
    parser.add_argument(
        "--workers", type=int, nargs="+", help="the sweep by so many, one count after the other"
    )
    parser.add_argument("overrides", nargs="*", help="for the sweep")
    options = parser.parse_intermixed_args()
    if options.workers and not options.sweep:
        parser.error("--workers is for a --sweep")
    if options.workers:
        beside(options.sweep, options.overrides, options.workers)
        return
    print(
        "| runs | wall, s | start | trainings | between, s a run | wall / trainings |\n|---|---|---|---|---|---|"
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if options.sweep:
            print(measure(options.sweep, options.overrides, folder / "outputs"))
            return
        make_toy(folder / "toy", SIZES)
        (folder / "tiny").mkdir()
        make_encoder(folder / "tiny")
        for runs in options.runs:
            print(tiny(folder, runs), flush=True)


if __name__ == "__main__":
    main()
