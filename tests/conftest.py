"""A tiny encoder and a toy benchmark: real parts, small enough to train in a second."""

import json
import os
import random
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # encoders this small are slower on two threads than on one
os.environ["HF_HUB_OFFLINE"] = "1"  # tests never ask a hub
os.environ["WANDB_MODE"] = "offline"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

from jaxtyping import install_import_hook

with install_import_hook(["synthweight.losses", "synthweight.metrics", "synthweight.runs.calibration"], "beartype.beartype"):
    import synthweight.calibration

    import synthweight.losses
    import synthweight.metrics  # noqa: F401

from synthweight.config import compose

# the command as a program; a shell that runs tests in the background makes its children ignore Ctrl-C
CLI = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from synthweight.cli.main import main; main()"
WORDS = {
    "negative": ["bad", "broken", "awful", "poor", "worst", "useless", "noisy", "refund"],
    "neutral": ["box", "cable", "manual", "size", "button", "colour", "page", "screen"],
    "positive": ["good", "great", "love", "perfect", "best", "happy", "bright", "sturdy"],
}
FILLER = ["the", "it", "this", "a", "player", "camera", "phone", "of", "and", "with", "was", "is"]
SIZES = {"small_real": 45, "large_real": 90, "test": 60, "synthetic": 96}


def sentence(rng: random.Random, label: str) -> str:
    words = rng.choices(WORDS[label], k=2) + rng.choices(FILLER, k=rng.randint(3, 9))
    rng.shuffle(words)
    return " ".join(words)


def write(path: Path, rows: list[dict]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def toy(tmp_path_factory) -> Path:
    """A benchmark of three classes whose words tell them apart; no text is in two splits."""
    return make_toy(tmp_path_factory.mktemp("toy"), SIZES)


def make_toy(folder: Path, sizes: dict[str, int]) -> Path:
    rng, seen = random.Random(7), set()
    for split, n in sizes.items():
        rows = []
        while len(rows) < n:
            label = list(WORDS)[len(rows) % 3]
            text = sentence(rng, label)
            if text not in seen:
                seen.add(text)
                rows.append({"text": text, "label": label})
        write(folder / f"{split}.jsonl", rows)
    return folder


@pytest.fixture(scope="session")
def tiny(tmp_path_factory) -> Path:
    """A BERT of two layers of 32 with random weights, as a Hugging Face folder."""
    return make_encoder(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def plain(tmp_path_factory) -> Path:
    """The same without dropout: for equalities."""
    return make_encoder(tmp_path_factory.mktemp("plain"), dropout=0.0, seed=3)


def make_encoder(folder: Path, hidden: int = 32, dropout: float = 0.1, seed: int = 0) -> Path:
    import torch
    from transformers import BertConfig, BertModel, BertTokenizerFast

    torch.manual_seed(seed)
    words = sorted({w for group in [*WORDS.values(), FILLER] for w in group})
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]
    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n")
    BertTokenizerFast(vocab={w: i for i, w in enumerate(vocabulary)}).save_pretrained(folder)
    config = BertConfig(
        vocab_size=len(vocabulary), hidden_size=hidden, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=2 * hidden, max_position_embeddings=64, hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
    )  # fmt: skip
    BertModel(config).save_pretrained(folder)
    return folder


@pytest.fixture
def settings(toy, tiny, tmp_path) -> list[str]:
    """Overrides of a run that takes a second."""
    return [
        "dataset=local", f"dataset.path={toy}", f"model.path={tiny}", "optim.epochs=2", "optim.epochs_small_real=3",
        "optim.lr=0.005", "optim.batch_size=16", "optim.max_length=32", "trainer.accelerator=cpu", "logger=none",
        f"paths.outputs={tmp_path / 'outputs'}", f"paths.cache={tmp_path / 'cache'}",
    ]  # fmt: skip


@pytest.fixture
def small(tmp_path, settings):
    """A sweep of eight rows on the tiny encoder, in a file of its own."""
    values = [s for s in settings if not s.startswith(("logger", "dataset="))]
    path = tmp_path / "small.yaml"
    listed = '[{source: small_real, selection: last, loss: ce, seed: "range(0,2)"}, {loss: "imp,dimp,focal", seed: "range(0,2)"}]'
    path.write_text(
        "defaults: [config, {override dataset: local}, {override logger: none}, _self_]\n"
        f"hydra:\n  mode: MULTIRUN\n  sweeper:\n    blocks: {listed}\n"
    )
    return path, values


@pytest.fixture
def bound(settings):
    """Composes and binds a run: bound("loss=dimp", "seed=1")."""

    def bind(*overrides: str):
        with compose.offline(compose.CONF):
            return compose.Composer("config").run([*settings, *overrides])

    return bind


@pytest.fixture
def fresh_wandb(monkeypatch, tmp_path):
    """W&B as a process meets it that has just begun, of a user who has never heard of it."""
    import wandb
    from wandb.sdk.lib import wbauth

    from synthweight.tracking import wandb_runs

    for name in ("HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "NETRC"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    for name in ("WANDB_MODE", "WANDB_API_KEY", "WANDB_BASE_URL"):
        monkeypatch.delenv(name, raising=False)

    def forget():
        wandb.teardown()
        wbauth.unauthenticate_session(update_settings=False)
        monkeypatch.setattr(wandb_runs, "session", wandb_runs.Session())

    forget()
    yield monkeypatch
    forget()


@pytest.fixture
def server(fresh_wandb):
    """W&B's server on loopback, which takes the key that is in the environment. A test may close it before the end."""
    from wandb_server import KEY, Server

    there = Server()
    fresh_wandb.setenv("WANDB_BASE_URL", there.url)
    fresh_wandb.setenv("WANDB_API_KEY", KEY)
    yield there
    there.close()


@pytest.fixture
def asking(toy, tmp_path, monkeypatch):
    """Overrides of `generate` and `prompt` that ask a server on loopback, with a key in the environment."""
    from llm_server import KEY

    monkeypatch.setenv("TEST_KEY", KEY)

    def overrides(server, *more: str) -> list[str]:
        given = {o.split("=")[0] for o in more}
        base = [
            "dataset=local", f"dataset.path={toy}", "generator=local", "generator.model=m", f"generator.base_url={server.url}",
            "generator.key_env=TEST_KEY", "generator.back_off=0.01", "generator.timeout=20", "generator.concurrency=4",
            f"paths.outputs={tmp_path / 'outputs'}", f"paths.cache={tmp_path / 'cache'}",
        ]  # fmt: skip
        return [o for o in base if o.split("=")[0] not in given] + list(more)

    return overrides


def material_of(job):
    """All that one training is made of, as `run` would make it; the checkers' scores are drawn."""
    import numpy as np

    from synthweight.data import sources
    from synthweight.data.tokenization import tokenize
    from synthweight.models import pretrained
    from synthweight.training import trainer

    material, folder = sources.build(job), pretrained.locate(job.model)

    def split(examples):
        tokens = tokenize(folder, pretrained.fingerprint(job.model), examples, job.optim.max_length, Path(job.paths.cache))
        return tokens, material.targets(examples)

    rng = np.random.default_rng(0)
    scores = {role: np.log(rng.uniform(0.1, 1, len(material.train))).astype(np.float32) for role in sorted(job.loss.needs)}
    series = {"selection": split(material.selection), "test": split(material.test)}
    return trainer.Training.of(
        job, folder, material.labels, split(material.train), series,
        scores=scores, select=True, keep_state=True, dev=split(material.dev),
    )  # fmt: skip


def equal(one, two):
    """Two trainings in fp64, of the same run: the same to nine digits."""
    import numpy as np
    import torch

    for a, b in zip(one.epochs, two.epochs, strict=True):
        np.testing.assert_allclose(a.weights, b.weights, rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(a.train_loss, b.train_loss, rtol=1e-9)
        np.testing.assert_allclose(a.log_probs["test"], b.log_probs["test"], rtol=1e-6)
        assert a.metrics["test"]["accuracy"] == b.metrics["test"]["accuracy"]
    torch.testing.assert_close(one.network.state_dict(), two.network.state_dict(), rtol=1e-9, atol=1e-9)
    assert (one.selected, one.guard_hits) == (two.selected, two.guard_hits)
    for fitted in (one, two):
        assert next(fitted.network.parameters()).dtype == torch.float64


class Stopped(Exception):
    pass


def stopped_at(training, checkpoints, epoch, said=None):
    """The training until it has finished this epoch, counted from 1, and no further."""
    from synthweight.training import trainer

    def stop(number, _):
        if number + 1 == epoch:
            raise Stopped

    with pytest.raises(Stopped):
        trainer.fit(training, stop, (said if said is not None else []).append, checkpoints=checkpoints)
