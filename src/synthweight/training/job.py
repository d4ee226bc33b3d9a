"""What a training is made of, and the network that it begins with."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from torch import nn
from torch.utils.data import DataLoader

from ..data.batching import evaluation_batches, training_batches
from ..data.tokenization import TokenizedTexts
from ..losses import WeightedLoss, Weighting
from ..models import classifier
from ..models.compile import compiled
from ..models.packed import forward
from .devices import device, precision
from .predict import evaluation_tokens

if TYPE_CHECKING:
    from ..config.schema import Optim, Run, Trainer

TokenizedSplit = tuple[TokenizedTexts, np.ndarray]  # n texts and their label positions, [n]


@dataclass(frozen=True)
class TrainingJob:
    """All that one training is made of; other processes can be sent it.

    Args:
        folder: the encoder's.
        strategy: the loss, with its settings.
        weighting: what is done to the weights.
        optim: the recipe.
        trainer: how it is computed.
        epochs: at least 1.
        seed: of the head, of the order of batches and of dropout.
        labels: the classes, sorted.
        train: the training set.
        series: evaluated after every epoch.
        final: evaluated once, by the selected epoch's network.
        scores: by checker, "quality" and "diversity", log p of the given label, [n].
        dev: D_P', for a strategy that learns by it.
        select: the epoch is selected by series["selection"]; otherwise the last one is.
        keep_state: the network that is returned has the selected epoch's weights.
    """

    folder: Path
    strategy: WeightedLoss
    weighting: Weighting
    optim: "Optim"
    trainer: "Trainer"
    epochs: int
    seed: int
    labels: tuple[str, ...]
    train: TokenizedSplit
    series: dict[str, TokenizedSplit]
    final: dict[str, TokenizedSplit] = field(default_factory=dict)
    scores: dict[str, np.ndarray] = field(default_factory=dict)
    dev: TokenizedSplit | None = None
    select: bool = False
    keep_state: bool = False

    @classmethod
    def from_run(
        cls,
        run: "Run",
        folder: Path,
        labels: tuple[str, ...],
        train: TokenizedSplit,
        series: dict[str, TokenizedSplit],
    ) -> "TrainingJob":
        """A run's loss, weighting, recipe, epochs and seed.

        A series "test" is evaluated as `trainer.test` says.

        Args:
            run: its settings.
            folder: the encoder's.
            labels: the classes, sorted.
            train: the training set.
            series: selection and test.
        """
        final = {
            name: split for name, split in series.items() if name == "test" and run.trainer.test == "selected"
        }
        return cls(
            folder=folder,
            strategy=run.loss,
            weighting=run.weighting,
            optim=run.optim,
            trainer=run.trainer,
            epochs=run.epochs,
            seed=run.seed,
            labels=labels,
            train=train,
            series={name: split for name, split in series.items() if name not in final},
            final=final,
        )

    @property
    def splits(self) -> list[TokenizedTexts]:
        """The tokens of all texts that the network will see."""
        dev = [] if self.dev is None else [self.dev]
        return [tokens for tokens, _ in [self.train, *self.series.values(), *self.final.values(), *dev]]

    def training_batches(self) -> DataLoader:
        """What an epoch's steps draw: training examples, or the candidates of a strategy that picks."""
        drawn = round(self.optim.batch_size * self.strategy.candidates)
        return training_batches(*self.train, drawn, self.seed, self.trainer.batching)

    def evaluation_batches(self) -> list[DataLoader]:
        """The batches of each series."""
        most = evaluation_tokens(precision(self.trainer), device(self.trainer.accelerator))
        return [evaluation_batches(tokens, most) for tokens, _ in self.series.values()]

    def map_tokens(self, change: Callable[[TokenizedTexts], TokenizedTexts]) -> "TrainingJob":
        """The same job with other tokens for the same texts."""

        def changed(split: TokenizedSplit) -> TokenizedSplit:
            return change(split[0]), split[1]

        return replace(
            self,
            train=changed(self.train),
            series={name: changed(split) for name, split in self.series.items()},
            final={name: changed(split) for name, split in self.final.items()},
            dev=None if self.dev is None else changed(self.dev),
        )


@contextmanager
def built_network(
    job: TrainingJob, splits: list[TokenizedTexts] | None = None
) -> Iterator[tuple[nn.Module, TrainingJob]]:
    """The network that a training begins with, in training mode, and the job in its token ids.

    Within it the network is packed, unless `trainer.padding`, and compiled, with `trainer.compile`.

    Args:
        job: the training.
        splits: whose token ids the network's embedding keeps, where they are more than the job's own.
    """
    network = classifier.build(job.folder, job.labels, job.train[0]).train()  # given in eval mode
    if job.trainer.precision == "64-true":
        network.double()  # before Lightning does: it loads a checkpoint first, and would round it
    with ExitStack() as stack:
        if not job.trainer.padding:
            job = job.map_tokens(stack.enter_context(forward.packed_network(network, splits or job.splits)))
        if job.trainer.compile:
            stack.enter_context(compiled(network))
        yield network, job
