"""What a GPU makes of this project: one command, within a time limit, that needs no network and no pretrained
weights.

    python benchmarks/gpu.py --minutes 8 --out FOLDER
    python benchmarks/gpu.py --minutes 8 --out FOLDER --parts check ours tuned
    python benchmarks/gpu.py --minutes 8 --out FOLDER --sweep main --workers 4 paths.data=FOLDER
    python benchmarks/gpu.py --minutes 2 --out FOLDER --toy                 every part at toy size, on a CPU too

The encoder is BERT base with random weights, the data 10,000 drawn texts of some 40 tokens in three classes,
batches of 32, five epochs; the real set is a 38th of them, as in the paper's Financial. The parts, in this
order:

    check     packed against padded: fp32 to 1e-4, bf16 no further from fp32 than the padded pass; graphs
    against
              kernels, in a pass and over a training; attention's dropout
    ours      a training of ours in bf16, its passes as CUDA graphs
    tuned     Hugging Face's Trainer in bf16, batches grouped by length, its best attention (sdpa)
    small     ours, and four seeds stacked, with an encoder of MiniLM's size
    at_once   four processes, each with a training of ours, on the one device
    small_at_once    eight processes with the small encoder
    ratios    what CE, DIMP, IMP, Hu et al. (cheap) and SunGen cost beside CE, checkers included, by a quarter of the data
    authors   the recipe of the paper's code by the Trainer: padded to 128 tokens, fp32; its speed over 100 steps
    stacked   four seeds as one stack of networks
    eager     ours without graphs
    compiled  ours by torch.compile, with the time that it compiles
    sweep     --sweep NAME: rows of a committed sweep by several workers, as an archive in FOLDER

Each part is a process of its own with a limit of its own; all of them import at the beginning, together. What
fails or runs out of time is said in its place, and the others go on. FOLDER gets gpu.json, gpu.md and a log
per part.
"""

import argparse
import contextlib
import dataclasses
import json
import os
import queue
import random
import signal
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Found = dict[str, Any]
ROOT = Path(__file__).parents[1]
EPOCHS, BATCH, LABELS = 5, 32, ("negative", "neutral", "positive")
BASE = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072}
SMALL = {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 1536}
TINY = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}


@dataclasses.dataclass(frozen=True)
class Size:
    """How much is computed."""

    texts: int  # synthetic
    part: int  # of them, for `ratios`
    real: int
    epochs: int
    steps: int  # of the authors' recipe
    vocabulary: int
    encoders: dict[str, dict[str, int]]


FULL = Size(10_000, 2_508, 263, EPOCHS, 100, 30_522, {"base": BASE, "small": SMALL})
TOY = Size(96, 96, 36, 2, 2, 500, {"base": TINY, "small": TINY})


@dataclasses.dataclass(frozen=True)
class Part:
    """One process's work, or that of several at once."""

    limit: float  # seconds
    processes: int = 1


PARTS = {
    "check": Part(40),
    "ours": Part(60),
    "tuned": Part(80),
    "small": Part(60),
    "at_once": Part(60, processes=4),
    "small_at_once": Part(60, processes=8),
    "ratios": Part(100),
    "authors": Part(40),
    "stacked": Part(60),
    "eager": Part(60),
    "compiled": Part(200),
}
IN_TOY = [part for part in PARTS if part != "compiled"]  # which takes minutes of a CPU


# what all parts read


def write_data(folder: Path, size: Size) -> None:
    """A local benchmark of drawn words, whose lengths and frequencies are like those of texts."""
    rng = random.Random(0)
    words = [
        f"w{i}" for i in range(size.vocabulary - 1000 if size.vocabulary > 2000 else size.vocabulary - 10)
    ]
    shares = [1 / (rank + 3) for rank in range(len(words))]  # Zipf's law
    folder.mkdir(parents=True)
    for split, n in {
        "synthetic": size.texts,
        "small_real": size.real,
        "large_real": size.real,
        "test": 512,
    }.items():
        n = min(n, size.texts)
        with (folder / f"{split}.jsonl").open("w", encoding="utf-8") as file:
            for i in range(n):
                # 38 words on average, and two tokens around
                length = min(max(round(rng.lognormvariate(3.55, 0.45)), 6), 120)
                text = " ".join([f"{split[0]}{i % 10}", *rng.choices(words, shares, k=length - 1)])
                file.write(json.dumps({"text": text, "label": LABELS[i % 3]}) + "\n")


def write_encoder(folder: Path, size: Size, shape: dict[str, int], dropout: float = 0.1) -> None:
    """A BERT with random weights and a tokenizer that knows each of the words as one token."""
    import torch
    from transformers import BertConfig, BertModel, BertTokenizerFast

    torch.manual_seed(0)
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    listed = [*special, *(f"w{i}" for i in range(size.vocabulary - len(special)))]
    folder.mkdir(parents=True)
    (folder / "vocab.txt").write_text("\n".join(listed) + "\n", encoding="utf-8")
    BertTokenizerFast(vocab={word: i for i, word in enumerate(listed)}).save_pretrained(folder)
    dropouts = {"hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout}
    BertModel(BertConfig(vocab_size=len(listed), **shape, **dropouts)).save_pretrained(folder)


def overrides(folder: Path, epochs: int, encoder: str = "base") -> list[str]:
    """Those of a run on the data with an encoder."""
    return [
        "dataset=local", f"dataset.path={folder / 'data'}", "model=bert_base", f"model.path={folder / encoder}",
        f"optim.batch_size={BATCH}", f"optim.epochs={epochs}", f"paths.cache={folder / 'cache'}",
    ]  # fmt: skip


# the parts, each in a process of its own


def trained(folder: Path, epochs: int, *more: str, encoder: str = "base") -> Found:
    """A training of ours on two epochs or more.

    steady: examples per second in the epochs after the first, evaluation included. first: seconds of the
    first, which captures or compiles. seconds: of the whole, from texts to the weights chosen. whole: the
    same for five epochs.
    """
    import overhead
    import throughput
    import torch
    import trials

    from synthweight.config import compose
    from synthweight.config.schema import CONF
    from synthweight.data import sources
    from synthweight.models import pretrained
    from synthweight.training.trainer import fit

    peak = throughput.matmul_peak(torch)
    with compose.offline(CONF), tempfile.TemporaryDirectory() as cache:
        run = compose.Composer("config").run([*trials.CE, *overrides(folder, epochs, encoder), *more])
        data, home = sources.build_run_data(run), pretrained.locate(run.model)
        reporter = overhead.TimingReporter()
        started = time.perf_counter()
        job = trials.training(run, home, data, Path(cache), ["test"])
        ready = time.perf_counter()
        fitted = fit(job, reporter)
        seconds = time.perf_counter() - started
    ends = reporter.ends
    epoch = (ends[-1] - ends[0]) / (epochs - 1)
    flop = 6 * throughput.inner(fitted.network) * int(job.train[0].lengths.sum())
    out = {
        "steady": round(len(data.train) / epoch, 1), "share": round(flop / epoch / peak, 4), "first": round(ends[0] - ready, 2),
        "epoch": round(epoch, 3), "tokenisation": round(ready - started, 2), "seconds": round(seconds, 2), "epochs": epochs,
        "whole": round(seconds + (EPOCHS - epochs) * epoch, 2),
    }  # fmt: skip
    return out | gpu_memory()


def by_trainer(system: str, folder: Path, epochs: int, steps: int | None = None) -> Found:
    """A training by Hugging Face's Trainer, as `throughput.py` measures it."""
    import throughput

    found = throughput.one(system, overrides(folder, epochs), steps)
    out: Found = {"steady": round(found["steady"], 1), "share": round(found["share"], 4), "epochs": epochs}
    if steps is None:
        train = found["seconds"] * found["whole"] / found["steady"]
        out["whole"] = round(found["seconds"] + train * (EPOCHS / epochs - 1), 2)
    return out | {"seconds": round(found["seconds"], 2)} | gpu_memory()


def gpu_memory() -> Found:
    import torch

    return (
        {"gpu_gib": round(torch.cuda.max_memory_allocated() / 2**30, 2)} if torch.cuda.is_available() else {}
    )


def ours(folder: Path, size: Size) -> Iterator[Found]:
    yield {"ours": trained(folder, size.epochs)}


def tuned(folder: Path, size: Size) -> Iterator[Found]:
    yield {"tuned": by_trainer("tuned", folder, 1)}


def small(folder: Path, size: Size) -> Iterator[Found]:
    yield {"small": trained(folder, size.epochs, encoder="small")}
    yield {"small stacked": stack(folder, "small")}


def stacked(folder: Path, size: Size) -> Iterator[Found]:
    yield {"stacked": stack(folder, "base")}


def at_once(folder: Path, size: Size) -> Iterator[Found]:
    yield {"at once": trained(folder, 2)}


def small_at_once(folder: Path, size: Size) -> Iterator[Found]:
    yield {"small at once": trained(folder, 2, encoder="small")}


def eager(folder: Path, size: Size) -> Iterator[Found]:
    from synthweight.models.packed import graphs

    graphs.MOST = 0
    yield {"eager": trained(folder, 2)}


def authors(folder: Path, size: Size) -> Iterator[Found]:
    yield {"authors": by_trainer("authors", folder, size.epochs, size.steps)}


def compiled(folder: Path, size: Size) -> Iterator[Found]:
    yield {"compiled": trained(folder, 2, "trainer.compile=true")}


def stack(folder: Path, encoder: str, epochs: int = 1) -> Found:
    """Four seeds as one stack of networks; `whole`: seconds of all four, for five epochs."""
    import trials

    from synthweight.config import compose
    from synthweight.config.schema import CONF
    from synthweight.data import sources
    from synthweight.models import pretrained
    from synthweight.training import seed_ensemble

    with compose.offline(CONF), tempfile.TemporaryDirectory() as cache:
        composer = compose.Composer("config")
        base = [*trials.CE, *overrides(folder, epochs, encoder)]
        runs = [composer.run([*base, f"seed={seed}"]) for seed in range(4)]
        data, home = sources.build_run_data(runs[0]), pretrained.locate(runs[0].model)
        started = time.perf_counter()
        jobs = [trials.training(run, home, data, Path(cache), ["test"]) for run in runs]
        fitted = seed_ensemble.fit_seed_ensemble([seed_ensemble.EnsembleMember(job) for job in jobs])
        whole = time.perf_counter() - started
    seconds = sum(one.seconds.train for one in fitted)
    out: Found = {
        "steady": round(4 * epochs * len(data.train) / seconds, 1),
        "epochs": epochs,
        "seconds": round(whole, 2),
    }
    return out | {"whole": round(whole + seconds * (EPOCHS / epochs - 1), 2)} | gpu_memory()


def ratios(folder: Path, size: Size) -> Iterator[Found]:
    """Seconds of whole trainings by loss, checkers included, over those of CE; |D_Q| = 38 |D_P'|."""
    import numpy as np
    import overhead
    import trials

    from synthweight.config import compose
    from synthweight.config.schema import CONF
    from synthweight.data import sources
    from synthweight.models import classifier, pretrained
    from synthweight.training.job import TrainingJob
    from synthweight.training.predict import predict
    from synthweight.training.trainer import fit

    losses = ("ce", "dimp", "imp", "sungen", "hu")
    with compose.offline(CONF):
        composer = compose.Composer("config")
        base = [*trials.CE, *overrides(folder, EPOCHS)]
        runs = {name: composer.run([*base, *overhead.LINES[name]]) for name in losses}
        data = sources.build_run_data(runs["ce"])
    home = pretrained.locate(runs["ce"].model)
    parts = data.train[: size.part], data.dev[: max(32, size.part // overhead.PROPORTION)], data.test[:1]
    train, real, one = (trials.split(runs["ce"], data, part) for part in parts)
    rng = np.random.default_rng(0)
    scores = {role: -rng.random(len(train[0])).astype(np.float32) for role in ("quality", "diversity")}

    def epoch(run: Any, split: Any) -> dict[str, float]:
        """Seconds of the second epoch, since the first one captures graphs: learning before the steps and
        beside them, steps.
        """
        reporter = overhead.TimingReporter()
        job = TrainingJob.from_run(run, home, data.labels, split, {"test": one})
        fitted = fit(dataclasses.replace(job, epochs=2, scores=scores, dev=real), reporter)
        learned, seconds = fitted.seconds.weights, reporter.ends[1] - reporter.ends[0]
        beside = 0.0 if reporter.phase else seconds * learned / (learned + fitted.seconds.train)
        return {"train": seconds - beside, "beside": beside, "before": learned if reporter.phase else 0.0}

    found = {"ce": epoch(runs["ce"], train), "QC epoch": epoch(runs["ce"], real)}
    network = classifier.build(home, data.labels)
    predict(network, real[0], len(data.labels), runs["ce"].trainer)
    started = time.perf_counter()
    predict(network, train[0], len(data.labels), runs["ce"].trainer)
    found["scoring"] = {"train": time.perf_counter() - started}
    for name in losses[1:]:
        found[name] = epoch(runs[name], train)
        stages = overhead.totals(found, {n: runs[n] for n in losses if n in found}, EPOCHS)
        ratio = {n: round(row["total"] / stages["ce"]["total"], 3) for n, row in stages.items()}
        yield {
            "ratios": {
                n: {"ratio": ratio[n], **{k: round(v, 3) for k, v in row.items()}}
                for n, row in stages.items()
            }
        }


def check(folder: Path, size: Size) -> Iterator[Found]:
    """Logits and gradients of one batch by every pass there is, on this device."""
    import throughput
    import torch
    from transformers import AutoModelForSequenceClassification

    from synthweight.models.packed import forward, graphs

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    peak = throughput.matmul_peak(torch) / 1e12
    yield {"machine": machine() | {"matmul_tflops": round(peak, 1)}}
    off = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    network: Any = AutoModelForSequenceClassification.from_pretrained(
        folder / "base", num_labels=3, **off
    ).to(device)
    rng = torch.Generator().manual_seed(0)
    lengths = torch.randint(6, 90, (BATCH,), generator=rng)
    mask = (torch.arange(int(lengths.max())) < lengths[:, None]).long()
    batch = {
        "input_ids": torch.randint(5, size.vocabulary, mask.shape, generator=rng) * mask,
        "attention_mask": mask,
    }
    if lengths.max() > network.config.max_position_embeddings:
        raise SystemExit("the encoder has too few positions")

    def passed(packed: bool, narrow: bool, training: bool, most: int = 0) -> tuple[Any, Any]:
        """Logits, and the gradient of a sum of them by all parameters as one vector; fp32."""
        network.train(training)
        network.zero_grad()
        graphs.MOST = most
        inside = forward.packed_forward(network) if packed else contextlib.nullcontext()
        given = batch if packed else {key: value.to(device) for key, value in batch.items()}
        with inside, torch.autocast(device.type, torch.bfloat16, enabled=narrow):
            logits = network(**given).logits.float()
        (logits * torch.linspace(-1, 1, logits.numel(), device=device).view_as(logits)).sum().backward()
        gradient = torch.cat([p.grad.float().flatten() for p in network.parameters() if p.grad is not None])
        return logits.detach(), gradient.detach()

    reference = passed(False, False, False)

    def distances(found: tuple[Any, Any]) -> dict[str, float]:
        return {
            name: float((a - b).norm() / b.norm())
            for name, a, b in zip(("logits", "gradient"), found, reference, strict=True)
        }

    out = {"fp32 packed, evaluation": distances(passed(True, False, False))}
    out["fp32 packed, training"] = distances(passed(True, False, True))
    out["bf16 padded"] = distances(passed(False, True, True))
    out["bf16 packed, kernel by kernel"] = distances(passed(True, True, True))
    if device.type == "cuda":
        out["bf16 packed, graphs"] = distances(passed(True, True, True, most=64))
    bound = 1e-4
    exact = all(
        value < bound for name, row in out.items() if name.startswith("fp32") for value in row.values()
    )
    near = all(
        row[key] < 1.5 * out["bf16 padded"][key] + bound
        for name, row in out.items()
        if name.startswith("bf16")
        for key in row
    )
    yield {"check": {"passed": exact and near, "relative distance from fp32 padded": out}}
    if device.type == "cuda":
        yield {"dropout": dropout(network, batch, forward, graphs)}
        yield {"training": trainings(folder, size.texts, graphs)}


def dropout(network: Any, batch: Found, forward: Any, graphs: Any) -> Found:
    """Attention's dropout keeps the mean and drops its share; two replays of a graph draw different masks."""
    import torch

    rows, heads, width = 64, 4, 64
    key = torch.randn(rows * width, heads, 64, device="cuda", dtype=torch.bfloat16)
    starts = torch.arange(0, rows * width + 1, width, dtype=torch.int32, device="cuda")
    ones = torch.ones_like(key)
    out = forward.varlen_attention(key * 0, key * 0, ones, (starts, starts), (width, width), 0.1).float()
    # of a mean of `width` shares, each kept with probability 0.9 and scaled
    expected = (0.1 / 0.9 / width) ** 0.5
    found = {
        "mean": round(float(out.mean()), 4),
        "sd": round(float(out[..., 0].std()), 4),
        "expected sd": round(expected, 4),
    }
    network.train()
    graphs.MOST = 64
    for module in network.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.1
    network.config.hidden_dropout_prob = network.config.attention_probs_dropout_prob = 0.1
    with forward.packed_forward(network), torch.autocast("cuda", torch.bfloat16):
        one, two = (network(**batch).logits.float().detach() for _ in range(2))
    found["replays differ"] = bool((one - two).abs().max() > 0)
    return found


def trainings(folder: Path, texts: int, graphs: Any) -> Found:
    """How far the weights of a training by graphs lie from those of one kernel by kernel, over how far they
    moved.

    Two trainings kernel by kernel differ too, by the order in which a GPU adds.
    """
    import torch
    import trials

    from synthweight.config import compose
    from synthweight.config.schema import CONF
    from synthweight.data import sources
    from synthweight.models import classifier, pretrained
    from synthweight.training.trainer import fit

    with compose.offline(CONF):
        few = [f"source.n={min(texts, 960)}", *overrides(folder, 1, "plain")]
        run = compose.Composer("config").run([*trials.CE, *few])
        data, home = sources.build_run_data(run), pretrained.locate(run.model)
    job = trials.training(run, home, data, folder / "cache", ["test"])
    ends = []
    for most in (0, 0, 64):
        graphs.MOST = most
        ends.append(torch.cat([p.detach().cpu().flatten() for p in fit(job).network.parameters()]))
    torch.manual_seed(run.seed)
    start = torch.cat([p.detach().flatten() for p in classifier.build(home, data.labels).parameters()])
    moved = float((ends[0] - start).norm())
    again, by_graphs = (float((end - ends[0]).norm()) / moved for end in ends[1:])
    return {
        "kernels again": round(again, 5),
        "graphs": round(by_graphs, 5),
        "passed": by_graphs < 2 * again + 0.02,
    }


def machine() -> Found:
    """Device, driver and versions."""
    import importlib.metadata
    import platform

    import torch

    versions = {
        name: importlib.metadata.version(name)
        for name in ("torch", "transformers", "pytorch-lightning", "numpy")
    }
    out: Found = {"python": platform.python_version(), "cpus": os.cpu_count(), **versions}
    if not torch.cuda.is_available():
        return {"device": "cpu"} | out
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    driver = subprocess.run(query, capture_output=True, text=True, check=False).stdout.strip()
    return {"device": torch.cuda.get_device_name(), "driver": driver, "cuda": torch.version.cuda} | out


WORK = {
    "check": check, "ours": ours, "tuned": tuned, "small": small, "stacked": stacked, "at_once": at_once,
    "small_at_once": small_at_once, "eager": eager, "authors": authors, "ratios": ratios, "compiled": compiled,
}  # fmt: skip


def work(name: str, folder: Path, size: Size) -> None:
    """A part: imports what all need, waits for a line, and prints what it finds as lines of JSON."""
    import sklearn.metrics  # noqa: F401
    import throughput  # noqa: F401
    import torch

    from synthweight.training import seed_ensemble  # noqa: F401

    results = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print goes to the log
    if torch.cuda.is_available():
        torch.zeros(1, device="cuda")
    if "authors" in name or "tuned" in name:
        from transformers import Trainer  # noqa: F401
    print(json.dumps({"ready": name}), file=results, flush=True)
    sys.stdin.readline()
    for found in WORK[name](folder, size):
        print(json.dumps(found), file=results, flush=True)
    print(json.dumps({"done": name}), file=results, flush=True)


# the parent


class Worker:
    """A part's process."""

    def __init__(self, name: str, folder: Path, toy: bool, log: Path) -> None:
        command = [
            sys.executable,
            __file__,
            "--work",
            name,
            "--folder",
            str(folder),
            *(["--toy"] if toy else []),
        ]
        self.log = log
        with log.open("a") as errors:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                start_new_session=True,
            )
        self.lines: queue.Queue[Found | None] = queue.Queue()
        threading.Thread(target=self.read, daemon=True).start()

    def read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.put(json.loads(line))
        self.lines.put(None)

    def next(self, until: float) -> Found | None:
        """The next line; None: there is none. Raises TimeoutError."""
        try:
            return self.lines.get(timeout=max(0.01, until - time.monotonic()))
        except queue.Empty:
            raise TimeoutError from None

    def go(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("go\n")
        self.process.stdin.flush()

    def end(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def reason(self) -> str:
        """The last line of its log."""
        lines = [line for line in self.log.read_text(errors="replace").splitlines() if line.strip()]
        return lines[-1][:300] if lines else f"exit code {self.process.returncode}"


def results(worker: Worker, until: float) -> Found:
    """What a started part finds, with an "error" where it did not end well."""
    found: Found = {}
    started = time.monotonic()
    try:
        while (line := worker.next(until)) is not None:
            if "done" in line:
                return found
            found |= line
        worker.end()
        return found | {"error": worker.reason()}
    except TimeoutError:
        return found | {"error": f"stopped after {time.monotonic() - started:.0f} s"}


def measure(options: argparse.Namespace) -> Found:
    """Every part in turn."""
    end = time.monotonic() + 60 * options.minutes
    size = TOY if options.toy else FULL
    out: Found = {"toy": options.toy}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        names = [part for part in PARTS if part in options.parts]
        waiting = {
            part: [
                Worker(part, folder, options.toy, options.out / f"{part}.log")
                for _ in range(PARTS[part].processes)
            ]
            for part in names
        }
        try:
            write_data(folder / "data", size)
            for encoder, shape in size.encoders.items():
                write_encoder(folder / encoder, size, shape)
            write_encoder(folder / "plain", size, TINY, dropout=0.0)
            for part, workers in waiting.items():  # all of them, so that none imports while another is timed
                for worker in workers:
                    try:
                        worker.next(end)
                    except TimeoutError:
                        out[part] = {"error": "no time left"}
            out["seconds before the parts"] = round(time.monotonic() - end + 60 * options.minutes, 1)
            for part, workers in waiting.items():
                out |= turn(part, workers, end)
                (options.out / "gpu.json").write_text(json.dumps(out, indent=1) + "\n")
        finally:
            for workers in waiting.values():
                for worker in workers:
                    worker.end()
    if options.sweep:
        out["sweep"] = sweep(options, end)
    return out


def turn(part: str, workers: list[Worker], end: float) -> Found:
    """A part's results, or those of the processes that do it at once."""
    until = min(end, time.monotonic() + PARTS[part].limit)
    if until - time.monotonic() < 3:
        return {part: {"error": "no time left"}}
    started = time.monotonic()
    for worker in workers:
        if worker.process.poll() is None:
            worker.go()
    found = [results(worker, until) for worker in workers]
    seconds = round(time.monotonic() - started, 1)
    for worker in workers:
        worker.end()
    errors = [one.pop("error") for one in found if "error" in one]
    out = found[0] | ({f"{part} error": errors[0]} if errors else {}) | {f"{part} seconds": seconds}
    if len(workers) > 1:
        rows = [next(iter(one.values())) for one in found if one]
        name = part.replace("_", " ")
        if rows:
            slowest = max(row["seconds"] for row in rows)
            out[name] = {
                "processes": len(workers), "ended": len(rows), "epochs": rows[0]["epochs"], "seconds": slowest,
                "steady": round(sum(row["steady"] for row in rows), 1), "whole": max(row["whole"] for row in rows),
                "gpu_gib": round(sum(row.get("gpu_gib", 0.0) for row in rows), 2),
            }  # fmt: skip
    return out


def sweep(options: argparse.Namespace, end: float) -> Found:
    """Rows of a sweep by several workers until the time is over, and all of them as an archive."""
    rows = options.out / "outputs"
    command = [sys.executable, "-m", "synthweight", "sweep", options.sweep, "--workers", str(options.workers)]
    command += [f"paths.outputs={rows}", *options.overrides]
    started = time.monotonic()
    with (options.out / "sweep.log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=ROOT, start_new_session=True)
        try:
            process.wait(timeout=max(1.0, end - time.monotonic()))
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGINT)  # the workers give their locks back
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
    archive = options.out / "rows.tar.gz"
    with tarfile.open(archive, "w:gz") as packed:
        if (rows / "rows").is_dir():
            packed.add(rows / "rows", "rows")
    done = len(list((rows / "rows").glob("*.json"))) if (rows / "rows").is_dir() else 0
    return {
        "rows": done,
        "seconds": round(time.monotonic() - started, 1),
        "workers": options.workers,
        "exit": process.returncode,
    }


def markdown(found: Found) -> str:
    """The figures as tables."""
    lines = [", ".join(f"{key} {value}" for key, value in found.get("machine", {}).items()), ""]
    head = "| system | examples/s, steady | five epochs, s | share of peak | GPU GiB | ours, × as fast |"
    lines += [head, "|---|---|---|---|---|---|"]
    speeds = (
        "ours",
        "tuned",
        "eager",
        "compiled",
        "authors",
        "stacked",
        "at once",
        "small",
        "small stacked",
        "small at once",
    )
    for name in speeds:
        row = found.get(name)
        if not isinstance(row, dict) or "steady" not in row:
            continue
        mark = "" if row["epochs"] == EPOCHS else "≈ "
        whole = f"{mark}{row['whole']:.1f}" if "whole" in row else "–"
        own = found.get("small" if name.startswith("small") else "ours")
        ratio = f"{own['steady'] / row['steady']:.2f}" if own else "–"
        share = f"{row['share']:.0%}" if "share" in row else "–"
        lines.append(
            f"| {name} | {row['steady']:.0f} | {whole} | {share} | {row.get('gpu_gib', '–')} | {ratio} |"
        )
    if "ratios" in found:
        lines += [
            "",
            "| loss | total / CE | QC | DC | scores | learning | training |",
            "|---|---|---|---|---|---|---|",
        ]
        for name, row in found["ratios"].items():
            stages = " | ".join(f"{row[key]:.1f}" for key in ("QC", "DC", "scores", "learning", "training"))
            lines.append(f"| {name} | {row['ratio']:.3f} | {stages} |")
    lines += [
        "",
        *(
            f"- {key}: {json.dumps(found[key])}"
            for key in ("check", "dropout", "training", "sweep")
            if key in found
        ),
    ]
    lines += [f"- {key}: {value}" for key, value in found.items() if key.endswith(("error", "seconds"))]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=8)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--toy", action="store_true")
    parser.add_argument("--parts", nargs="+", choices=PARTS, help="all of them, if not given")
    parser.add_argument("--sweep", help="a sweep's name: its rows, when the parts are done")
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--work", choices=WORK, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("overrides", nargs="*", help="of the sweep, such as paths.data=FOLDER")
    options = parser.parse_intermixed_args()
    if options.work:
        work(options.work, options.folder, TOY if options.toy else FULL)
        return
    if options.out is None:
        parser.error("--out FOLDER: where the figures go")
    options.parts = options.parts or (IN_TOY if options.toy else list(PARTS))
    options.out = options.out.resolve()
    options.out.mkdir(parents=True, exist_ok=True)
    found = measure(options)
    (options.out / "gpu.json").write_text(json.dumps(found, indent=1) + "\n")
    (options.out / "gpu.md").write_text(markdown(found))
    print(markdown(found))
    checked = all(found[key]["passed"] for key in ("check", "training") if key in found)
    if not checked or ("ours" in options.parts and "steady" not in found.get("ours", {})):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
