"""Does a run's memory, and its speed, stay where they are when the LLM-written texts become many?

    python benchmarks/scale.py                                20,000 and 200,000 texts: those of product_reviews, repeated
    python benchmarks/scale.py --texts 20000 1000000 --encoder FOLDER

One epoch of CE each, a process of its own. The default encoder is a tiny one with random weights, beside
which what grows with the texts is not hidden. Prints examples/s of the steps alone, seconds of the whole
command, and its peak memory.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from synthweight.config.schema import ROOT

sys.path.insert(0, str(ROOT / "tests"))
from support.toy import make_encoder

CODE = """
import resource
from synthweight.cli import main
try:
    main()
finally:
    print("PEAK", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def repeated(folder: Path, n: int) -> Path:
    """product_reviews as a local dataset whose LLM-written side has n texts."""
    from synthweight.config import compose
    from synthweight.config.schema import CONF
    from synthweight.data import sources
    from synthweight.data.examples import write_jsonl

    with compose.offline(CONF):
        run = compose.Composer("config").run(["dataset=product_reviews", "source=synthetic", "logger=none"])
    material = sources.build_run_data(run)
    out = folder / f"texts{n}"
    for name, examples in (
        ("synthetic", material.train),
        ("small_real", material.dev),
        ("test", material.test),
    ):
        count = n if name == "synthetic" else len(examples)
        chosen = (examples[i % len(examples)] for i in range(count))
        write_jsonl(
            out / f"{name}.jsonl",
            ({"id": str(i), "text": e.text, "label": e.label} for i, e in enumerate(chosen)),
        )
    return out


def measure(folder: Path, n: int, encoder: Path, overrides: list[str]) -> str:
    data, outputs = repeated(folder, n), folder / f"outputs{n}"
    values = [
        "dataset=local", f"dataset.path={data}", f"model.path={encoder}", "source=synthetic", "loss=ce", "selection=last",
        "optim.epochs=1", "optim.max_length=64", "logger=none",
        f"paths.outputs={outputs}", f"paths.cache={folder / 'cache'}", *overrides,
    ]  # fmt: skip
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", CODE, "train", *values], capture_output=True, text=True, cwd=ROOT
    )
    wall = time.perf_counter() - started
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    peak = int(done.stdout.rsplit("PEAK ", 1)[1]) / 2**20
    (row,) = (json.loads(path.read_text()) for path in (outputs / "rows").glob("*.json"))
    return f"| {n:,} | {n / row['seconds']['train']:.0f} | {wall:.0f} | {row['seconds']['prepare']:.1f} | {peak:.2f} |"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--texts", type=int, nargs="+", default=[20_000, 200_000])
    parser.add_argument("--encoder", type=Path, help="a Hugging Face folder")
    parser.add_argument("overrides", nargs="*", help="such as trainer.padding=true")
    options = parser.parse_intermixed_args()
    print("| texts | examples/s | whole command, s | of it preparing | peak, GiB |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "tiny").mkdir()
        encoder = (options.encoder or make_encoder(folder / "tiny")).absolute()
        for n in options.texts:
            print(measure(folder, n, encoder, options.overrides), flush=True)


if __name__ == "__main__":
    main()
