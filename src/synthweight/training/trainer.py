"""One training: a job in; its epochs and the network of the selected one out."""

import contextlib
import gc
import logging
import signal
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.plugins.environments import LightningEnvironment
from pytorch_lightning.strategies import DDPStrategy
from torch import nn

from ..errors import first_line, memory_full
from ..models import compile
from ..models.packed import forward
from .checkpoint import Checkpoints, SaveEveryEpoch
from .devices import device, precision
from .distributed import DistributedContext, process_group
from .history import Epoch, StageSeconds, TrainingHistory
from .job import TrainingJob, built_network
from .memory import hold_memory, release_memory, too_large
from .module import ClassifierModule
from .predict import predict
from .reporter import RunReporter

PATIENCE = timedelta(days=1)  # while the first process learns weights before the training, the others wait
# torch's own choice: one run's setting must not become the next one's default
THREADS = torch.get_num_threads()


@dataclass
class FitResult:
    """A finished training.

    Args:
        network: in eval mode, with the weights of the selected epoch where `keep_state` asked for it.
        epochs: all of them.
        selected: the selected one, from 0.
        guard_hits: how many weights lay at the numerical guard's edge.
        seconds: by stage.
        fallbacks: what was used instead of a setting, by its name.
    """

    network: nn.Module
    epochs: list[Epoch]
    selected: int
    guard_hits: int
    seconds: StageSeconds
    fallbacks: dict[str, Any] = field(default_factory=dict)


def fit(
    job: TrainingJob, reporter: RunReporter | None = None, checkpoints: Checkpoints | None = None
) -> FitResult:
    """Trains one classifier on `trainer.devices` devices.

    Args:
        job: what to train.
        reporter: is told messages and epochs; None: nothing is.
        checkpoints: where the state after each epoch is kept, and where a training that was stopped
            continues.

    Raises:
        UserError: the loss is not finite, no epoch can be selected, or a batch does not fit into memory.
    """
    reporter = reporter or RunReporter()
    silence_lightning()
    if job.trainer.checkpoint == "off":
        checkpoints = None
    resume = None
    if checkpoints is not None and (latest := checkpoints.latest(reporter)) is not None:
        resume, done = latest
        reporter.log(f"continues after epoch {done}/{job.epochs}")
    # without the guard
    reader = None if checkpoints is None else Checkpoints(checkpoints.folder, checkpoints.identity)
    try:
        with process_group(job.trainer.devices, _fit_worker, job, reader, resume) as context:
            return _fit_process(context, job, reporter, checkpoints, resume)
    except RuntimeError as error:
        if not memory_full(error):
            raise
        reason = first_line(error)
    raise too_large(job.optim.batch_size, device(job.trainer.accelerator).type, reason)


def _fit_worker(
    context: DistributedContext, job: TrainingJob, checkpoints: Checkpoints | None, resume: Path | None
) -> None:
    """What the processes after the first do: the same, in silence."""
    silence_lightning()
    warnings.simplefilter("ignore")
    logging.disable()
    _fit_process(context, replace(job, keep_state=False), RunReporter(), checkpoints, resume)


def _fit_process(
    context: DistributedContext,
    job: TrainingJob,
    reporter: RunReporter,
    checkpoints: Checkpoints | None,
    resume: Path | None,
) -> FitResult:
    """The training as one of its processes does it."""
    freeze_imports()
    hold_memory()
    torch.set_num_threads(job.trainer.threads or max(1, THREADS // context.world_size))
    pl.seed_everything(job.seed, verbose=False)
    with built_network(job) as (network, job):
        if context.rank:  # the same head, and dropout of its own
            torch.manual_seed(job.seed + (context.rank << 32))
        module = ClassifierModule(network, job, context, reporter)
        callbacks = [] if checkpoints is None else [SaveEveryEpoch(checkpoints, module.history)]
        trainer = lightning_trainer(job, reporter, context, checkpoints, callbacks)
        with keyboard_interrupt(), reporter.show_progress():
            trainer.fit(module, job.training_batches(), job.evaluation_batches() or None, ckpt_path=resume)
        if context.rank == 0:
            evaluate_selected(job, module.history, network)
        fallbacks = {} if module.learner is None else module.learner.fallbacks()
        fallbacks |= {} if job.trainer.padding or forward.is_packed(network) else {"padding": True}
        fallbacks |= {"compile": False} if compile.fell_back(network) else {}
    network.eval()
    gc.collect()  # the optimizer's state hangs in a cycle with Lightning's trainer
    release_memory()
    history, hits = module.history, int(module.objective.guard_hits)
    return FitResult(network, history.epochs, history.selected, hits, history.seconds, fallbacks)


def evaluate_selected(job: TrainingJob, history: TrainingHistory, network: nn.Module) -> None:
    """Gives the network the selected epoch's weights, and evaluates the series that are evaluated once.

    Args:
        job: of the training.
        history: of its epochs.
        network: with the last epoch's weights.
    """
    history.seconds.restart()
    history.load_best(network)
    for name, (tokens, targets) in job.final.items():
        history.add_final(name, predict(network, tokens, len(job.labels), job.trainer), targets)


def lightning_trainer(
    job: TrainingJob,
    reporter: RunReporter,
    context: DistributedContext | None = None,
    checkpoints: Checkpoints | None = None,
    callbacks: Sequence[pl.Callback] = (),
) -> pl.Trainer:
    """Lightning's trainer with a job's settings.

    Args:
        job: its epochs and its trainer's settings.
        reporter: its loggers get the scalars.
        context: the processes that train.
        checkpoints: how checkpoints are written and read.
        callbacks: Lightning's.
    """
    context = context or DistributedContext()
    plugins: list[Any] = [] if checkpoints is None else [checkpoints]
    if context.world_size > 1:
        plugins.append(LightningEnvironment())  # no cluster's scheduler started these processes
    return pl.Trainer(
        max_epochs=job.epochs,
        # Lightning's own choice for auto knows more devices
        accelerator=device(job.trainer.accelerator).type,
        devices=context.world_size,
        strategy="auto" if context.world_size == 1 else DDPStrategy(timeout=PATIENCE),
        precision=precision(job.trainer),  # type: ignore[arg-type]
        plugins=plugins,
        callbacks=list(callbacks),
        logger=list(reporter.loggers) or False,
        enable_checkpointing=checkpoints is not None,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        log_every_n_steps=1,
    )


@contextlib.contextmanager
def keyboard_interrupt() -> Iterator[None]:
    """Lightning swallows Ctrl-C, ignores it from then on, and exits with 1."""
    interrupt = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit as error:
        signal.signal(signal.SIGINT, interrupt)
        raise KeyboardInterrupt from error


@cache
def freeze_imports() -> None:
    """Takes what is imported by now out of Python's garbage collections, once per process.

    It stays, and looking at its million objects takes a third of a second each time.
    """
    gc.freeze()


def silence_lightning() -> None:
    """Hides Lightning's banners and tips, which are no news to the user."""
    for name in ("pytorch_lightning", "pytorch_lightning.utilities.rank_zero", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", ".*does not have many workers.*")
    # nothing is selected by, test is evaluated at the end
    warnings.filterwarnings("ignore", ".*have no `val_dataloader`.*")
    # of the same run, killed or trained again
    warnings.filterwarnings("ignore", ".*Experiment logs directory.*")
    # of another kind, or by the user's wish
    warnings.filterwarnings("ignore", "GPU available but not used.*")
    warnings.filterwarnings("ignore", ".*LeafSpec.*", category=FutureWarning)
