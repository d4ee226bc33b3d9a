"""One training: a network, a strategy and tokens in; epochs, the chosen one and its weights out."""

import contextlib
import gc
import logging
import signal
import warnings
from dataclasses import replace
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.plugins.environments import LightningEnvironment
from pytorch_lightning.strategies import DDPStrategy
from torch import nn

from ..data.batching import evaluation_batches
from ..data.tokenization import TokenizedTexts
from ..errors import first_line, memory_full
from ..losses import LabelledTexts
from ..models import classifier as model
from ..models.compile import failed
from ..models.packed import forward
from . import distributed, memory
from .checkpoint import Checkpoints, EveryEpoch
from .devices import device, precision
from .distributed import Peers
from .history import Epoch
from .job import Fitted as Fitted
from .job import Split, begun
from .job import Training as Training
from .module import Classifier
from .objective import Ledger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from pytorch_lightning.loggers import Logger

    from ..config.schema import Trainer


PATIENCE = timedelta(days=1)  # while the first process learns weights before the training, the others wait
THREADS = torch.get_num_threads()  # torch's own choice: one run's setting must not become the next one's default


@cache
def freeze_imports() -> None:
    """Takes what is imported by now out of Python's collections, once a process.

    It is there to stay, and looking at its million objects takes a third of a second each time.
    """
    gc.freeze()


def quiet() -> None:
    """Lightning's banners and tips are not the user's news."""
    for name in ("pytorch_lightning", "pytorch_lightning.utilities.rank_zero", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", ".*does not have many workers.*")
    warnings.filterwarnings("ignore", ".*have no `val_dataloader`.*")  # nothing is selected by, test is evaluated at the end
    warnings.filterwarnings("ignore", ".*Experiment logs directory.*")  # of the same run, killed or trained again
    warnings.filterwarnings("ignore", "GPU available but not used.*")  # of another kind than those taken, or by the user's wish
    warnings.filterwarnings("ignore", ".*LeafSpec.*", category=FutureWarning)


def fit(
    training: Training,
    report: "Callable[[int, Epoch], None]" = lambda *_: None,
    say: "Callable[[str], None]" = print,
    loggers: "list[Logger] | None" = None,
    root: Path = Path("."),
    checkpoints: Checkpoints | None = None,
) -> Fitted:
    """Trains one classifier, on `trainer.devices` devices; goes on after the last epoch of `checkpoints`.

    Args:
        report: takes each epoch's number and results. say: takes a line of progress.

    Raises:
        UserError: the loss is not finite, no epoch can be chosen, or, on one device, a batch does not fit into memory.
    """
    quiet()
    count = training.trainer.devices
    resume = None
    if checkpoints is not None and training.trainer.checkpoint == "epoch":
        resume = checkpoints.latest(say)
        if resume is not None:
            say(f"goes on after epoch {resume.name.rpartition('-')[2]}/{training.epochs}")
    else:
        checkpoints = None
    if count == 1:
        try:
            return one(training, Peers(), report, say, loggers, root, checkpoints, resume)
        except RuntimeError as error:
            if not memory_full(error):
                raise
            said = first_line(error)
        raise memory.too_large(training.optim.batch_size, device(training.trainer.accelerator).type, said)
    read = None if checkpoints is None else Checkpoints(checkpoints.folder, checkpoints.identity)
    with distributed.started(count, other, training, root, read, resume):
        return one(training, Peers(0, count), report, say, loggers, root, checkpoints, resume)


def other(rank: int, training: Training, root: Path, checkpoints: Checkpoints | None, resume: Path | None) -> None:
    """What the processes after the first do: the same, in silence."""
    quiet()
    warnings.simplefilter("ignore")
    peers = Peers(rank, training.trainer.devices)
    one(replace(training, keep_state=False), peers, lambda *_: None, lambda _: None, None, root, checkpoints, resume)


def one(
    training: Training,
    peers: Peers,
    report: "Callable[[int, Epoch], None]",
    say: "Callable[[str], None]",
    loggers: "list[Logger] | None",
    root: Path,
    checkpoints: Checkpoints | None,
    resume: Path | None,
) -> Fitted:
    """The training as one of its processes does it."""
    freeze_imports()
    memory.hold_memory()
    torch.set_num_threads(training.trainer.threads or max(1, THREADS // peers.count))
    pl.seed_everything(training.seed, verbose=False)
    with begun(training) as (network, t):
        if peers.rank:  # the same head, and dropout of its own
            torch.manual_seed(t.seed + (peers.rank << 32))
        known = texts(t.train), None if t.dev is None else texts(t.dev)
        classifier = Classifier(network, t, known, report, say, peers)
        train(t, classifier, loggers, root, checkpoints, resume)
        fallbacks = {} if classifier.learner is None else classifier.learner.fallbacks()
        fallbacks |= {"padding": True} if not (t.trainer.padding or forward.is_packed(network)) else {}
        fallbacks |= {"compile": False} if failed(network) else {}
        if peers.rank == 0:
            finish(t, classifier.ledger, network)
    network.eval()
    gc.collect()  # the optimizer's state hangs in a cycle with Lightning's trainer
    memory.release_memory()
    ledger = classifier.ledger
    return Fitted(network, ledger.epochs, ledger.selected, int(ledger.hits), ledger.seconds, fallbacks)


def finish(t: Training, ledger: Ledger, network: nn.Module) -> None:
    """The chosen epoch's state for the network, and what that one alone is evaluated on."""
    ledger.settle(network)
    for name, (tokens, targets) in t.final.items():
        ledger.scored(name, log_probs(network, tokens, len(t.labels), t.trainer), targets)


def train(
    t: Training,
    classifier: Classifier,
    loggers: "list[Logger] | None",
    root: Path,
    checkpoints: Checkpoints | None,
    resume: Path | None,
) -> None:
    """The epochs."""
    callbacks = [] if checkpoints is None else [EveryEpoch(checkpoints, classifier.ledger)]
    trainer = lightning(t, root, loggers, classifier.peers, callbacks, checkpoints)
    series = [evaluation_batches(tokens, evaluation_tokens(t.trainer)) for tokens, _ in t.series.values()]
    with interruptible():
        trainer.fit(classifier, t.batches(), series or None, ckpt_path=resume)


def lightning(
    t: Training,
    root: Path,
    loggers: "list[Logger] | None" = None,
    peers: Peers | None = None,
    callbacks: "Sequence[pl.Callback]" = (),
    checkpoints: Checkpoints | None = None,
) -> pl.Trainer:
    """Lightning's trainer with a training's settings."""
    trainer, peers = t.trainer, peers or Peers()
    return pl.Trainer(
        max_epochs=t.epochs,
        accelerator=device(trainer.accelerator).type,  # Lightning's own choice for auto knows more devices
        devices=peers.count,
        strategy="auto" if peers.count == 1 else DDPStrategy(timeout=PATIENCE),
        precision=precision(trainer),  # type: ignore[arg-type]
        plugins=plugins(peers, checkpoints),
        callbacks=list(callbacks),
        logger=loggers or False,
        enable_checkpointing=checkpoints is not None,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        default_root_dir=root,
        log_every_n_steps=1,
    )


@contextlib.contextmanager
def interruptible() -> "Iterator[None]":
    """Lightning swallows Ctrl-C, ignores it from then on, and exits with 1."""
    interrupt = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit as error:
        signal.signal(signal.SIGINT, interrupt)
        raise KeyboardInterrupt from error


def plugins(peers: Peers, checkpoints: Checkpoints | None) -> list[Any]:
    """Lightning's: how checkpoints are written, and that it is no cluster's scheduler who started the processes."""
    found: list[Any] = [] if checkpoints is None else [checkpoints]
    return found if peers.count == 1 else [*found, LightningEnvironment()]


def texts(split: Split) -> LabelledTexts:
    """Tokens and label positions as a learner of weights takes them."""
    tokens, targets = split
    return LabelledTexts(tokens.batch, tokens.lengths, targets)


def log_probs(network: nn.Module, tokens: TokenizedTexts, classes: int, trainer: "Trainer") -> np.ndarray:
    """log p(y|x) of all classes, eval mode, fp32, [n, classes]; the network's products in `trainer.precision`."""
    place = device(trainer.accelerator)
    network.to(place)
    laid = contextlib.nullcontext() if trainer.padding else forward.packed(network)
    with laid, torch.autocast(place.type, torch.bfloat16, enabled=precision(trainer) == "bf16-mixed"):
        found = model.log_probs(network, evaluation_batches(tokens, evaluation_tokens(trainer)), len(tokens), classes)
    memory.release_memory()
    return found


def evaluation_tokens(trainer: "Trainer") -> int:
    """How many tokens a batch of evaluation has at most: half as many in fp32, each twice as large; more on a GPU."""
    tokens = 4096 if precision(trainer) == "bf16-mixed" else 2048
    return 8 * tokens if device(trainer.accelerator).type == "cuda" else tokens
