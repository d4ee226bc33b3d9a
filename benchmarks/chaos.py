"""A sweep of 24 tiny real runs by eight workers on two hosts, through all that may befall them; then what must hold.

    python benchmarks/chaos.py [--kills 100] [--workers 8] [--lease 6] [--seed 0]

All workers are killed (SIGKILL) at random moments and started again. On the way:

- every other worker has another host name, so that its death can be told by its missing heartbeats alone;
- their clocks (`time.time`) differ by up to an hour, and jump while they work;
- at every tenth kill a worker is stopped (SIGSTOP) for longer than its lease lasts, and then goes on;
- the disk of the outputs runs full twice, and every worker must end with the one line that says so.

At the end there must be 24 rows, none twice, none damaged, none lost, and no epoch finished more often than its run was
in flight at a kill, at a full disk or in a stopped worker, plus once: the work wasted is at most what was in flight.
Prints the figures; exits with 1 where one is wrong. A lease is short here so that an expired one need not be waited for.
Whether a kill falls into a training step is read from the stack that a worker writes the moment before.

The workers are forks of this process, which has the libraries loaded already; each then runs the command `synthweight sweep`.
"""

import argparse
import ctypes
import faulthandler
import json
import multiprocessing
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

os.environ |= {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}

from synthweight.cli.main import main as synthweight
from synthweight.config.schema import ROOT
from synthweight.runs import locks, run  # noqa: F401  (run: the libraries, loaded once for all workers)
from synthweight.runs.store import Store

sys.path.insert(0, str(ROOT / "tests"))
from support.toy import make_encoder, make_toy

RUNS, HOUR = 24, 3600.0
FORK = multiprocessing.get_context("fork")
STEP = re.compile(r'training_epoch_loop\.py", line \d+ in advance')  # Lightning's one training batch
SIZES = {"small_real": 240, "test": 60, "synthetic": 960}
ROOM = "512m"  # of the disk; the runs take a part of it
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
    """What happened. In flight: runs whose lease a worker held that was killed, stopped, or had no room to write."""

    kills: int = 0
    in_step: int = 0
    full: int = 0
    stops: int = 0
    taken_over: int = 0  # from a stopped worker, by another
    jumps: int = 0
    in_flight: Counter[str] = field(default_factory=Counter)
    finished: Counter[tuple[str, str]] = field(default_factory=Counter)  # by name and epoch
    resumed: int = 0
    ended: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0


def work(arguments: list[str], log: Path, host: str, clock: Any, lease: float) -> None:
    """A worker's whole life, in a process of its own: the command, on another host and by another clock."""
    out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(out, 1)
    os.dup2(out, 2)
    sys.stdout = sys.stderr = open(1, "w", buffering=1, closefd=False)  # noqa: SIM115
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGUSR1, lambda *_: faulthandler.dump_traceback(2, all_threads=False))
    right = time.time
    socket.gethostname, time.time = (lambda: host), (lambda: right() + clock.value)
    locks.DURATION = lease
    synthweight(arguments)


class Workers:
    """Several `synthweight sweep` of one file, as users would start them in terminals of two machines."""

    def __init__(self, folder: Path, n: int, epochs: int, lease: float) -> None:
        self.folder, self.n, self.lease, self.starts = folder, n, lease, 0
        self.store = Store(folder / "disk" / "outputs")
        (folder / "many.yaml").write_text(SWEEP)
        made = FORK.Process(target=self.make)  # not here: forks of a process that has computed may hang
        made.start()
        made.join()
        values = [
            f"dataset.path={folder / 'toy'}", f"model.path={folder / 'tiny'}", f"optim.epochs={epochs}",
            f"optim.epochs_small_real={3 * epochs}", "optim.lr=0.005", "optim.batch_size=16", "optim.max_length=32",
            "trainer.accelerator=cpu", f"paths.outputs={self.store.root}", f"paths.cache={folder / 'cache'}",
        ]  # fmt: skip
        self.arguments = ["sweep", str(folder / "many.yaml"), *values]
        self.clocks = [FORK.RawValue(ctypes.c_double, 0.0) for _ in range(n)]
        self.running: list[Any] = []

    def make(self) -> None:
        make_toy(self.folder / "toy", SIZES)
        (self.folder / "tiny").mkdir()
        make_encoder(self.folder / "tiny")

    def start(self) -> None:
        self.starts += 1
        self.running = []
        for i in range(self.n):
            lasts = self.arguments, self.log(i), f"vm-{i % 2}", self.clocks[i], self.lease
            self.running.append(FORK.Process(target=work, args=lasts))
            self.running[-1].start()

    def log(self, i: int) -> Path:
        return self.folder / f"{self.starts:03}-{i}.log"

    def texts(self) -> list[str]:
        """What each worker of this start has printed."""
        return [self.log(i).read_text() if self.log(i).exists() else "" for i in range(self.n)]

    @property
    def alive(self) -> list[Any]:
        return [process for process in self.running if process.is_alive()]

    def wait_for(self, text: str) -> None:
        while self.alive and not any(text in each for each in self.texts()):
            time.sleep(0.02)

    def jump(self, rng: random.Random) -> None:
        """Sets every worker's clock to another hour."""
        for clock in self.clocks:
            clock.value = rng.uniform(-HOUR, HOUR)

    def in_step(self) -> bool:
        """Whether a worker is in a training step now, from the stacks that they write when asked."""
        before = [len(text) for text in self.texts()]
        for process, size in zip(self.running, before, strict=True):
            if size and process.is_alive():  # before its first word the signal would end it
                os.kill(process.pid, signal.SIGUSR1)
        time.sleep(0.05)
        return any(STEP.search(text, size) for text, size in zip(self.texts(), before, strict=True))

    def held(self, pids: set[int]) -> dict[str, int]:
        """The runs that these processes hold the lease of and that have no row, each with its holder."""
        found = {path.parent.name: locks.lock_holder(path.parent) for path in self.store.runs.glob("*/lease")}
        done = self.store.ids()
        return {
            name: holder.pid
            for name, holder in found.items()
            if holder and holder.pid in pids and name not in done
        }

    def require_running(self) -> None:
        """Exits where a worker ended by itself with an error."""
        for i, process in enumerate(self.running):
            if process.exitcode:
                raise SystemExit(
                    f"a worker ended by itself ({process.exitcode}): {self.log(i).read_text()[-3000:]}"
                )

    def kill(self, chaos: Chaos, aimed: bool) -> None:
        """All at once; who was at what is read from the leases that they leave. Aimed: as soon as one is in a step."""
        step, until = self.in_step(), time.monotonic() + 5
        while aimed and not step and time.monotonic() < until:
            step = self.in_step()
        self.require_running()
        killed = self.alive
        for process in killed:
            process.kill()
        for process in killed:
            process.join()
        if killed:
            chaos.kills += 1
            chaos.in_step += step
            chaos.in_flight.update(self.held({process.pid for process in killed}).keys())

    def stop(self, chaos: Chaos, rng: random.Random) -> None:
        """Stops a worker that is at a run for longer than its lease lasts, and lets it go on."""
        held = self.held({process.pid for process in self.alive})
        if not held:
            return
        name, pid = rng.choice(sorted(held.items()))
        os.kill(pid, signal.SIGSTOP)
        chaos.in_flight[name] += 1
        chaos.stops += 1
        until = time.monotonic() + 3 * self.lease
        while time.monotonic() < until and self.held({pid}).get(name) == pid:
            time.sleep(0.1)
        chaos.taken_over += self.held({pid}).get(name) != pid
        os.kill(pid, signal.SIGCONT)
        time.sleep(rng.uniform(0.5, 2.0))  # it finds out

    def fill(self, chaos: Chaos) -> None:
        """Fills the disk of the outputs; every worker must end with one line that says so. Then there is room again."""
        filler = self.folder / "disk" / "filler"
        held: set[str] = set()
        before = [len(text) for text in self.texts()]
        with filler.open("wb", buffering=0) as file:
            while self.alive:  # what they delete makes room again
                held |= self.held({process.pid for process in self.alive}).keys()
                with suppress(OSError):
                    while True:
                        file.write(b"\0" * 4096)
                time.sleep(0.05)
        chaos.in_flight.update(held)
        for process, text, size in zip(self.running, self.texts(), before, strict=True):
            ended = "No space left on device" in text[size:] and "make room" in text[size:]
            if process.exitcode != 0 and not (
                process.exitcode == 1 and ended and "Traceback" not in text[size:]
            ):
                raise SystemExit(f"a full disk: {process.exitcode}, {text[-3000:]}")
        filler.unlink()
        chaos.full += 1


def count(workers: Workers, chaos: Chaos) -> None:
    """Epochs finished, runs resumed and ended, from what the workers printed."""
    for log in workers.folder.glob("*.log"):
        text = log.read_text()
        chaos.finished.update(re.findall(r"\] (\S+ \S+ \S+ \S+ seed \d+): epoch (\d+)/", text))
        chaos.resumed += text.count(": continues after epoch ")
        chaos.ended.update(m[1] for m in re.finditer(r"test accuracy .*\((\w{16})\)", text))


def play(workers: Workers, kills: int, seed: int, disk: bool) -> Chaos:
    """The whole of it: kills and the rest, then a last start that is left alone."""
    rng, chaos = random.Random(seed), Chaos()
    began = time.perf_counter()
    while chaos.kills < kills and len(workers.store.ids()) < RUNS:
        workers.jump(rng)
        workers.start()
        if aimed := rng.random() < 0.85:
            workers.wait_for(": epoch ")
            time.sleep(rng.uniform(0.0, 3.0))
        else:
            time.sleep(rng.uniform(0.2, 3.0))  # while it starts, plans, or whatever comes
        workers.jump(rng)
        chaos.jumps += 1
        if chaos.kills % 10 == 5:
            workers.wait_for(": epoch ")
            workers.stop(chaos, rng)
        if disk and chaos.full < 2 and chaos.kills >= (chaos.full + 1) * kills // 3:
            workers.fill(chaos)
            continue
        workers.kill(chaos, aimed)
        print(
            f"kill {chaos.kills}: {len(workers.store.ids())} rows, {chaos.in_step} in a training step so far",
            flush=True,
        )
    workers.start()
    for process in workers.running:
        process.join()
    workers.require_running()
    chaos.seconds = time.perf_counter() - began
    count(workers, chaos)
    return chaos


def wrong(chaos: Chaos, workers: Workers, kills: int, disk: bool) -> list[str]:
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
        by_name[f"local {config['source']['name']} {config['loss']['name']} tiny seed {config['seed']}"] = (
            row["id"]
        )
    for (name, epoch), n in chaos.finished.items():
        if n > 1 + chaos.in_flight[by_name[name]]:
            found.append(
                f"{name} finished epoch {epoch} {n} times and was in flight {chaos.in_flight[by_name[name]]} times"
            )
    left = [path.name for path in store.rows.iterdir() if path.suffix not in (".json", ".parquet")]
    if left:
        found.append(f"half-written files are left in rows/: {left}")
    if failed := [path.parent.name for path in store.runs.glob("*/failed.json")]:
        found.append(f"runs are recorded as failed: {failed}")
    if (
        chaos.kills < kills
        or chaos.in_step < 0.6 * kills
        or not chaos.taken_over
        or not chaos.resumed
        or (disk and chaos.full < 2)
    ):
        found.append(f"{chaos}: too little to show anything")
    return found


@contextmanager
def small_disk(folder: Path) -> Iterator[bool]:
    """Mounts a file system of its own where the outputs go. False: not permitted here, so that none runs full."""
    folder.mkdir()
    mount = shutil.which("mount")
    command = [str(mount), "-t", "tmpfs", "-o", f"size={ROOM}", "tmpfs", str(folder)]
    mounted = mount is not None and subprocess.run(command, capture_output=True, check=False).returncode == 0
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", str(folder)], check=False)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument(
        "--epochs", type=int, help="of a run on synthetic examples; default: half the kills, at least 12"
    )
    parser.add_argument(
        "--lease", type=float, default=6.0, help="seconds without a heartbeat after which a run is free"
    )
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    epochs = options.epochs or max(12, options.kills // 2)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))  # the disk is unmounted all the same
    with tempfile.TemporaryDirectory() as name, small_disk(Path(name) / "disk") as disk:
        workers = Workers(Path(name), options.workers, epochs, options.lease)
        try:
            chaos = play(workers, options.kills, options.seed, disk)
        finally:
            for process in workers.running:  # the disk is busy as long as they live
                process.kill()
                process.join()
        found, rows = wrong(chaos, workers, options.kills, disk), len(workers.store.ids())
    figures = {
        "workers": options.workers,
        "kills": chaos.kills,
        "kills during a training step": chaos.in_step,
        "full disks": chaos.full,
        "workers stopped for longer than a lease": chaos.stops,
        "of their runs taken over meanwhile": chaos.taken_over,
        "jumps of the clocks": chaos.jumps,
        "rows": rows,
        "runs in flight at all that": sum(chaos.in_flight.values()),
        "runs that went on after their last epoch": chaos.resumed,
        "trainings begun beyond one a row": sum(
            n - 1 for (_, epoch), n in chaos.finished.items() if epoch == "1"
        ),
        "epochs finished beyond once": sum(chaos.finished.values()) - len(chaos.finished),
        "epochs": len(chaos.finished),
        "seconds": round(chaos.seconds),
    }
    print(json.dumps(figures, indent=1))
    sys.exit("\n".join(found) if found else 0)


if __name__ == "__main__":
    main()
