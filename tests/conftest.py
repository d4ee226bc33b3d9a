"""A tiny encoder and a toy benchmark: real parts, small enough to train in a second."""

import os
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # encoders this small are slower on two threads than on one
os.environ["HF_HUB_OFFLINE"] = "1"  # tests never ask a hub
os.environ["WANDB_MODE"] = "offline"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

from jaxtyping import install_import_hook

with install_import_hook(
    [
        "synthweight.losses.functional",
        "synthweight.losses.meta",
        "synthweight.metrics",
        "synthweight.runs.calibration",
    ],
    "beartype.beartype",
):
    pass

from support.toy import SIZES, make_encoder, make_toy
from synthweight.config import compose


@pytest.fixture(scope="session")
def toy(tmp_path_factory) -> Path:
    """A benchmark of three classes whose words tell them apart; no text is in two splits."""
    return make_toy(tmp_path_factory.mktemp("toy"), SIZES)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory) -> Path:
    """A BERT of two layers of 32 with random weights, as a Hugging Face folder."""
    return make_encoder(tmp_path_factory.mktemp("tiny", numbered=False))


@pytest.fixture(scope="session")
def plain(tmp_path_factory) -> Path:
    """The same without dropout: for equalities."""
    return make_encoder(tmp_path_factory.mktemp("plain"), dropout=0.0, seed=3)


@pytest.fixture
def settings(toy, tiny, tmp_path) -> list[str]:
    """Overrides of a run that takes a second."""
    return [
        "dataset=local", f"dataset.path={toy}", f"model.path={tiny}", "optim.epochs=2", "optim.epochs_small_real=3",
        "optim.lr=0.005", "optim.batch_size=16", "optim.max_length=32", "trainer.accelerator=cpu", "trainer.precision=32",
        "logger=none",
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

    from synthweight.tracking import wandb as tracking_wandb

    for name in ("HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "NETRC"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    for name in ("WANDB_MODE", "WANDB_API_KEY", "WANDB_BASE_URL"):
        monkeypatch.delenv(name, raising=False)

    def forget():
        wandb.teardown()
        wbauth.unauthenticate_session(update_settings=False)
        monkeypatch.setattr(tracking_wandb, "session", tracking_wandb.WandbSession())

    forget()
    yield monkeypatch
    forget()


@pytest.fixture
def server(fresh_wandb):
    """W&B's server on loopback, which takes the key that is in the environment.

    A test may close it before the end.
    """
    from support.wandb_server import KEY, Server

    there = Server()
    fresh_wandb.setenv("WANDB_BASE_URL", there.url)
    fresh_wandb.setenv("WANDB_API_KEY", KEY)
    yield there
    there.close()


@pytest.fixture
def asking(toy, tmp_path, monkeypatch):
    """Overrides of `generate` and `prompt` that ask a server on loopback, with a key in the environment."""
    from support.llm_server import KEY

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
