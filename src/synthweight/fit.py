"""One training: a network, a strategy and tokens in; epochs, the chosen one and its weights out."""

import gc
import logging
import signal
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import nn

from . import model
from .data.batching import evaluation_batches, training_batches
from .data.tokens import Tokens
from .epochs import Epoch, Seconds, Series
from .errors import UserError
from .losses import Strategy, Texts, Weighting
from .module import Classifier

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytorch_lightning.loggers import Logger

    from .configs import Optim, Trainer


THREADS = torch.get_num_threads()  # torch's own choice: one run's setting must not become the next one's default


@dataclass
class Fitted:
    """A finished training. `network` has the weights of the selected epoch where `keep_state` asked for it."""

    network: nn.Module
    epochs: list[Epoch]
    selected: int
    guard_hits: int
    seconds: Seconds


def quiet() -> None:
    """Lightning's banners and tips are not the user's news."""
    for name in ("pytorch_lightning", "lightning.pytorch", "pytorch_lightning.utilities.rank_zero"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", ".*does not have many workers.*")
    warnings.filterwarnings("ignore", ".*LeafSpec.*", category=FutureWarning)


def fit(
    folder: Path,
    strategy: Strategy,
    weighting: Weighting,
    optim: "Optim",
    trainer: "Trainer",
    epochs: int,
    seed: int,
    labels: tuple[str, ...],
    train: tuple[Tokens, np.ndarray],
    scores: dict[str, np.ndarray],
    series: dict[str, tuple[Tokens, np.ndarray]],
    select: bool,
    keep_state: bool,
    report: "Callable[[int, Epoch], None]",
    loggers: "list[Logger] | None" = None,
    root: Path = Path("."),
    dev: "tuple[Tokens, np.ndarray] | None" = None,
    say: "Callable[[str], None]" = print,
) -> Fitted:
    """Trains one classifier from the encoder in `folder`.

    Args:
        train, series: tokens with label positions. scores: by checker, log p of the given label, [n]. select: choose the
            epoch by series["selection"]. keep_state: the network returned has the selected epoch's weights. dev: D_P' for
            a strategy that learns by it. say: takes a line of progress.

    Raises:
        UserError: the loss is not finite, or no epoch can be chosen.
    """
    quiet()
    torch.set_num_threads(trainer.threads or THREADS)
    pl.seed_everything(seed, verbose=False)
    tokens, targets = train
    classifier = Classifier(
        model.build(folder, labels).train(),  # transformers hands it over in eval mode: without dropout
        strategy,
        weighting,
        optim,
        targets,
        scores,
        [Series(name, y, labels) for name, (_, y) in series.items()],
        select,
        keep_state,
        report,
        (texts(train), None if dev is None else texts(dev)),
        labels,
        seed,
        say,
    )
    lightning = pl.Trainer(
        max_epochs=epochs,
        accelerator=trainer.accelerator,
        devices=1,
        precision=trainer.precision,  # type: ignore[arg-type]
        logger=loggers or False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        default_root_dir=root,
        log_every_n_steps=1,
    )
    drawn = round(optim.batch_size * strategy.candidates)
    loaders = training_batches(tokens, drawn, seed), [evaluation_batches(t) for t, _ in series.values()]
    interrupt = signal.getsignal(signal.SIGINT)
    try:
        lightning.fit(classifier, *loaders)
    except SystemExit as error:  # Lightning swallows Ctrl-C, ignores it from then on, and exits with 1
        signal.signal(signal.SIGINT, interrupt)
        raise KeyboardInterrupt from error
    if classifier.best_state is not None and classifier.selected != epochs - 1:
        classifier.network.load_state_dict(classifier.best_state)
    classifier.network.eval()
    gc.collect()  # the optimizer's state hangs in a cycle with Lightning's trainer
    model.release_memory()
    return Fitted(classifier.network, classifier.epochs, classifier.selected, int(classifier.hits), classifier.seconds)


def texts(split: tuple[Tokens, np.ndarray]) -> Texts:
    """Tokens and label positions as a learner of weights takes them."""
    tokens, targets = split
    return Texts(tokens.batch, tokens.lengths, targets)


def require_device(accelerator: str) -> None:
    """Raises UserError where the machine lacks what is asked for."""
    there = {"gpu": torch.cuda.is_available() or torch.backends.mps.is_available(), "cuda": torch.cuda.is_available()}
    there["mps"] = torch.backends.mps.is_available()
    if not there.get(accelerator, True):
        raise UserError(f"trainer.accelerator={accelerator}: this machine has none; use auto or cpu")


def device(accelerator: str) -> torch.device:
    """The device that Lightning would take for this setting."""
    return torch.device("cuda" if accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available() else "cpu")


def log_probs(network: nn.Module, tokens: Tokens, classes: int, accelerator: str) -> np.ndarray:
    """log p(y|x) of all classes, eval mode, fp32, [n, classes]."""
    return model.log_probs(network.to(device(accelerator)), evaluation_batches(tokens), len(tokens), classes)


def machine(accelerator: str) -> dict[str, Any]:
    """What a row says of the machine: the kind and name of the device, and the threads."""
    kind = device(accelerator).type
    name = torch.cuda.get_device_name() if kind == "cuda" else "cpu"
    return {"device": {"kind": kind, "name": name}, "threads": torch.get_num_threads()}
