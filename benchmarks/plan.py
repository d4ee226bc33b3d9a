"""How long `synthweight plan` takes for a sweep of many runs on real data: no training, and no timed test.

    python benchmarks/plan.py            10,000 runs: 5 losses x 4 rates x 5 sizes x 100 seeds
    python benchmarks/plan.py 10000 seed     one cell, 10,000 seeds

Prints the seconds of the whole command as a user would wait for it, start of Python included, and of a second
one that finds half of the rows there.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from synthweight.config.schema import ROOT


def sweep_file(folder: Path, n: int, kind: str) -> Path:
    """A sweep of n runs: many cells, or one cell with many seeds."""
    cells = "loss: 'ce,focal,imp,dimp,quality_only', optim.lr: '1e-4,2e-4,3e-4,5e-4', source.n: '200,400,600,800,1000'"
    many = f"{cells}, seed: 'range(0,{n // 100})'"
    block = many if kind == "cells" else f"loss: ce, seed: 'range(0,{n})'"
    path = folder / "many.yaml"
    path.write_text(
        f"defaults: [config, _self_]\nhydra: {{mode: MULTIRUN, sweeper: {{blocks: [{{{block}}}]}}}}\n"
    )
    return path


def plan(path: Path, outputs: Path) -> tuple[float, list[str]]:
    started = time.perf_counter()
    command = [sys.executable, "-m", "synthweight", "plan", str(path), f"paths.outputs={outputs}"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    return time.perf_counter() - started, done.stdout.splitlines()


def main() -> None:
    n = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    kind = sys.argv[2] if len(sys.argv) > 2 else "cells"
    with tempfile.TemporaryDirectory() as folder:
        path, outputs = sweep_file(Path(folder), n, kind), Path(folder) / "outputs"
        seconds, lines = plan(path, outputs)
        print(f"{lines[-2]}\nplan of {n} runs, no row there: {seconds:.1f} s")
        rows = outputs / "rows"
        rows.mkdir(parents=True)
        # as long as a real one
        row = {"format": 1, "kind": "prompt", "config": {str(i): i for i in range(400)}}
        for line in lines[:-2:2]:  # every other one, as if it were done
            run_id = line[9:25]
            (rows / f"{run_id}.json").write_text(json.dumps(row | {"id": run_id}, indent=1))
        seconds, lines = plan(path, outputs)
        print(f"{lines[-2]}\n{lines[-1]}\nplan of {n} runs, half of them there: {seconds:.1f} s")


if __name__ == "__main__":
    main()
