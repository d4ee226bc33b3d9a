"""A sweep of 24 tiny real runs by two workers, killed (SIGKILL) at 20 random moments and started again each
time.

    python benchmarks/chaos.py [--kills 20] [--seed 0]

At the end there must be 24 rows, none twice, none damaged, none lost, and no run begun more often than it was
in flight at a kill, plus once: the work wasted is at most the runs in flight; of a run that goes on it is at
most an epoch, so no epoch is finished more often than that either. Prints the figures; exits with 1 where one
is wrong. Whether a kill falls into a training step is read from the stack that faulthandler writes the moment
before.
"""

import argparse
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from synthweight.config.schema import ROOT
from synthweight.runs.store import Store

sys.path.insert(0, str(ROOT / "tests"))
from support.toy import make_encoder, make_toy

RUNS, WORKERS = 24, 2
# a handler of Python's own: Lightning restores those after a training, and not faulthandler.register's
CODE = (
    "import faulthandler, signal; signal.signal(signal.SIGUSR1, lambda *_: faulthandler.dump_traceback(all_threads=False)); "
    "from synthweight.cli.main import main; main()"
)
STEP = re.compile(r'training_epoch_loop\.py", line \d+ in advance')  # Lightning's one training batch
SIZES = {"small_real": 240, "test": 60, "synthetic": 960}
SWEEP = """\
# Jobs: 24 (6 cells x 4 seeds).
defaults: [config, {override dataset: local}, {override logger: none}, _self_]
hydra:
  mode: MULTIRUN
  sweeper:
    blocks:
      - {source: small_real, selection: last, loss: ce, seed: "range(0,4)"}
      - {source: synthetic, loss: "ce,focal,imp,dimp,quality_only", seed: "range(0,4)"}
"""


@dataclass
class Chaos:
    """What happened. In flight: runs whose lease a killed worker held and whose row was not there."""

    kills: int = 0
    in_step: int = 0
    in_flight: Counter[str] = field(default_factory=Counter)
    finished: Counter[tuple[str, str]] = field(default_factory=Counter)  # by name and epoch
    resumed: int = 0
    ended: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0


class Workers:
    """Two `synthweight sweep` of one file, as a user would start them in two terminals."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.starts = folder, 0
        self.store = Store(folder / "outputs")
        (folder / "many.yaml").write_text(SWEEP)
        make_toy(folder / "toy", SIZES)
        (folder / "tiny").mkdir()
        make_encoder(folder / "tiny")
        values = [
            f"dataset.path={folder / 'toy'}", f"model.path={folder / 'tiny'}", "optim.epochs=12", "optim.epochs_small_real=40",
            "optim.lr=0.005", "optim.batch_size=16", "optim.max_length=32", "trainer.accelerator=cpu",
            f"paths.outputs={self.store.root}", f"paths.cache={folder / 'cache'}",
        ]  # fmt: skip
        self.command = [sys.executable, "-c", CODE, "sweep", str(folder / "many.yaml"), *values]
        self.running: list[subprocess.Popen] = []

    def start(self) -> None:
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        self.starts += 1
        self.running = []
        for i in range(WORKERS):
            with self.log(i).open("w") as out:
                self.running.append(
                    subprocess.Popen(self.command, stdout=out, stderr=subprocess.STDOUT, env=environment)
                )

    def log(self, i: int) -> Path:
        return self.folder / f"{self.starts:02}-{i}.log"

    def texts(self) -> list[str]:
        """What each worker of this start has printed."""
        return [self.log(i).read_text() for i in range(WORKERS)]

    def said(self) -> str:
        return "".join(self.texts())

    def wait_for(self, text: str) -> None:
        while text not in self.said() and any(p.poll() is None for p in self.running):
            time.sleep(0.02)

    def in_step(self) -> bool:
        """Whether a worker is in a training step now, from the stacks that they write when asked."""
        before = [len(text) for text in self.texts()]
        for process, size in zip(self.running, before, strict=True):
            if size:  # before its first word the signal would end it
                process.send_signal(signal.SIGUSR1)
        time.sleep(0.05)
        return any(STEP.search(text, sizes) for text, sizes in zip(self.texts(), before, strict=True))

    def kill(self, chaos: Chaos, aimed: bool) -> None:
        """All at once; who was at what is read from the leases that they leave.

        Aimed: as soon as one is in a step.
        """
        step, until = self.in_step(), time.monotonic() + 5
        while aimed and not step and time.monotonic() < until:
            step = self.in_step()
        alive = [p for p in self.running if p.poll() is None]
        if any(process.returncode for process in self.running):
            raise SystemExit(f"a worker ended by itself: {self.said()[-3000:]}")
        if not alive:
            return
        for process in alive:
            process.kill()
        for process in alive:
            process.wait()
        self.running = []
        chaos.kills += 1
        chaos.in_step += step
        leases = {path.parent.name for path in self.store.runs.glob("*/lease")}
        chaos.in_flight.update(leases - self.store.ids())


def count(workers: Workers, chaos: Chaos) -> None:
    """Epochs finished, runs resumed and ended, from what the workers printed."""
    for log in workers.folder.glob("*.log"):
        text = log.read_text()
        chaos.finished.update(re.findall(r"\] (\S+ \S+ \S+ \S+ seed \d+): epoch (\d+)/", text))
        chaos.resumed += text.count(": goes on after epoch ")
        chaos.ended.update(m[1] for m in re.finditer(r"test accuracy .*\((\w{16})\)", text))


def run(folder: Path, kills: int, seed: int) -> tuple[Chaos, Workers]:
    """The whole of it: kills, then a last start that is left alone."""
    rng, chaos, workers = random.Random(seed), Chaos(), Workers(folder)
    began = time.perf_counter()
    while chaos.kills < kills and len(workers.store.ids()) < RUNS:
        workers.start()
        if aimed := rng.random() < 0.85:
            workers.wait_for(": epoch ")
            time.sleep(rng.uniform(0.0, 5.0))
        else:
            time.sleep(rng.uniform(0.5, 10.0))  # while it starts, plans, or whatever comes
        workers.kill(chaos, aimed)
        print(
            f"kill {chaos.kills}: {len(workers.store.ids())} rows, {chaos.in_step} in a training step so far",
            flush=True,
        )
    workers.start()
    codes = [process.wait() for process in workers.running]
    if any(codes):
        raise SystemExit(f"the last start failed: {codes}\n{workers.said()[-2000:]}")
    chaos.seconds = time.perf_counter() - began
    count(workers, chaos)
    return chaos, workers


def wrong(chaos: Chaos, workers: Workers, kills: int) -> list[str]:
    """What is not as it should be."""
    store, found = workers.store, []
    ids = store.ids()
    rows = [store.row(run_id) for run_id in sorted(ids)]
    for run_id in sorted(ids):
        store.table(run_id)  # raises where it is damaged
    if len(ids) != RUNS:
        found.append(f"{len(ids)} rows, not {RUNS}")
    names = Counter(
        (r["config"]["source"]["name"], r["config"]["loss"]["name"], r["config"]["seed"]) for r in rows
    )
    if len(names) != RUNS or max(names.values()) > 1:
        found.append(f"rows twice or lost: {names}")
    if max(chaos.ended.values()) > 1:
        found.append(f"trained to the end twice: {chaos.ended}")
    by_name = {}
    for row in rows:
        config = row["config"]
        by_name[f"local {config['source']['name']} {config['loss']['name']} minilm seed {config['seed']}"] = (
            row["id"]
        )
    for (name, epoch), n in chaos.finished.items():
        if n > 1 + chaos.in_flight[by_name[name]]:
            found.append(
                f"{name} finished epoch {epoch} {n} times and was in flight at {chaos.in_flight[by_name[name]]} kills"
            )
    left = [path.name for path in store.rows.iterdir() if path.suffix not in (".json", ".parquet")]
    if left:
        found.append(f"half-written files are left in rows/: {left}")
    if chaos.kills < kills or chaos.in_step < 0.75 * kills:
        found.append(
            f"{chaos.kills} kills, {chaos.in_step} of them in a training step: too few to show anything"
        )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        chaos, workers = run(Path(folder), options.kills, options.seed)
        found, rows = wrong(chaos, workers, options.kills), len(workers.store.ids())
    figures = {
        "kills": chaos.kills,
        "kills during a training step": chaos.in_step,
        "rows": rows,
        "runs in flight at kills": sum(chaos.in_flight.values()),
        "runs that went on after their last epoch": chaos.resumed,
        "trainings begun beyond one a row": sum(
            n - 1 for (_, epoch), n in chaos.finished.items() if epoch == "1"
        ),
        "epochs finished beyond once": sum(chaos.finished.values()) - len(chaos.finished),
        "seconds": round(chaos.seconds),
    }
    print(json.dumps(figures, indent=1))
    sys.exit("\n".join(found) if found else 0)


if __name__ == "__main__":
    main()
