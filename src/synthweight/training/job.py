"""What a training is made of, what it begins with, and what comes of it."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import nn
from torch.utils.data import DataLoader

from ..data.batching import training_batches
from ..data.tokenization import TokenizedTexts
from ..losses import WeightedLoss, Weighting
from ..models import classifier
from ..models.compile import compiled
from ..models.packed import forward
from .history import Epoch, Seconds

if TYPE_CHECKING:
    from ..config.schema import Optim, Run, Trainer

Split = tuple[TokenizedTexts, np.ndarray]


@dataclass(frozen=True)
class Training:
    """All that one training is made of; other processes can be sent it.

    folder: of the encoder. labels: sorted. train, series: tokens with label positions. scores: by checker, log p of the
    given label, [n]. select: choose the epoch by series["selection"]. keep_state: the network returned has the selected
    epoch's weights. series: scored after every epoch. final: scored once, by the selected epoch's network. dev: D_P' for a
    strategy that learns by it.
    """

    folder: Path
    strategy: WeightedLoss
    weighting: Weighting
    optim: "Optim"
    trainer: "Trainer"
    epochs: int
    seed: int
    labels: tuple[str, ...]
    train: Split
    scores: dict[str, np.ndarray]
    series: dict[str, Split]
    final: dict[str, Split]
    select: bool
    keep_state: bool = False
    dev: Split | None = None

    @classmethod
    def of(
        cls, run: "Run", folder: Path, labels: tuple[str, ...], train: Split, series: dict[str, Split], **more: Any
    ) -> "Training":
        """A run's, by its loss, weighting, recipe, epochs and seed. more: other fields, or others than the run's.

        `series["test"]` is scored once, unless `trainer.test=epoch`.
        """
        final = {name: split for name, split in series.items() if name == "test" and run.trainer.test == "selected"}
        series = {name: split for name, split in series.items() if name not in final}
        given: dict[str, Any] = {"strategy": run.loss, "weighting": run.weighting, "optim": run.optim, "trainer": run.trainer}
        given |= {"epochs": run.epochs, "seed": run.seed, "scores": {}, "select": False, "final": final}
        return cls(folder=folder, labels=labels, train=train, series=series, **(given | more))

    @property
    def splits(self) -> list[TokenizedTexts]:
        """The tokens of all its texts."""
        known = [self.train, *self.series.values(), *self.final.values(), *([] if self.dev is None else [self.dev])]
        return [tokens for tokens, _ in known]

    def batches(self) -> DataLoader:
        """What an epoch's steps draw: its training texts, or the candidates of a strategy that picks."""
        drawn = round(self.optim.batch_size * self.strategy.candidates)
        return training_batches(*self.train, drawn, self.seed, self.trainer.batching)

    def by(self, change: Callable[[TokenizedTexts], TokenizedTexts]) -> "Training":
        """The same with other tokens."""
        train, dev = self.train, self.dev
        return replace(
            self,
            train=(change(train[0]), train[1]),
            series={name: (change(tokens), targets) for name, (tokens, targets) in self.series.items()},
            final={name: (change(tokens), targets) for name, (tokens, targets) in self.final.items()},
            dev=None if dev is None else (change(dev[0]), dev[1]),
        )


@dataclass
class Fitted:
    """A finished training. `network` has the weights of the selected epoch where `keep_state` asked for it."""

    network: nn.Module
    epochs: list[Epoch]
    selected: int
    guard_hits: int
    seconds: Seconds
    fallbacks: dict[str, Any] = field(default_factory=dict)  # what was used instead of a setting, by its name


@contextmanager
def begun(t: Training, splits: list[TokenizedTexts] | None = None) -> Iterator[tuple[nn.Module, Training]]:
    """The network that a training begins with, in training mode, and the training by the words that the network knows.

    Packed, unless `trainer.padding`, and compiled, with `trainer.compile`, until the end. splits: whose words these
    are, if not the training's own alone.
    """
    network = classifier.build(t.folder, t.labels, t.train[0]).train()  # transformers gives it in eval mode: without dropout
    if t.trainer.precision == "64-true":
        network.double()  # before Lightning does: it loads a checkpoint first, and would round it
    with ExitStack() as within:
        if not t.trainer.padding:
            t = t.by(within.enter_context(forward.compact(network, splits or t.splits)))
        if t.trainer.compile:
            within.enter_context(compiled(network))
        yield network, t
