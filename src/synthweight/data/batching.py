"""Batches of texts, at random or of like length, in an order that seed and epoch alone decide."""

from collections.abc import Iterator

import numpy as np
from torch.utils.data import DataLoader, Sampler

from .tokens import Tokens

WINDOW = 8  # batches: lengths are sorted within so many only, so that a batch's company is drawn anew every epoch


class EpochOrder:
    """A permutation of n examples for each epoch (Lightning calls `set_epoch`)."""

    def __init__(self, n: int, seed: int) -> None:
        self.n, self.seed, self.epoch = n, seed, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def permutation(self) -> np.ndarray:
        return np.random.default_rng([self.seed, 2, self.epoch]).permutation(self.n)


class Shuffled(Sampler[list[int]]):
    """Shuffles, deals the labels out evenly where they are given, and cuts.

    Looks at the epoch when the first batch is asked for: after a resume Lightning makes the iterator before it says which
    epoch it is.
    """

    def __init__(self, n: int, batch_size: int, seed: int, labels: np.ndarray | None = None) -> None:
        self.batch_size, self.labels = batch_size, labels
        self.sampler = EpochOrder(n, seed)

    def __iter__(self) -> Iterator[list[int]]:
        yield from (batch.tolist() for batch in cut(self.dealt(self.sampler.permutation()), self.batch_size))

    def dealt(self, order: np.ndarray) -> np.ndarray:
        return order if self.labels is None else dealt(order, self.labels)

    def __len__(self) -> int:
        return -(-self.sampler.n // self.batch_size)


class LengthGrouped(Shuffled):
    """Shuffles, sorts by length within windows of `WINDOW` batches, deals and cuts as there, and shuffles the batches."""

    def __init__(self, lengths: np.ndarray, batch_size: int, seed: int, labels: np.ndarray | None = None) -> None:
        super().__init__(len(lengths), batch_size, seed, labels)
        self.lengths = lengths

    def __iter__(self) -> Iterator[list[int]]:
        batches: list[np.ndarray] = []
        for part in cut(self.sampler.permutation(), WINDOW * self.batch_size):
            batches += cut(self.dealt(part[np.argsort(self.lengths[part], kind="stable")]), self.batch_size)
        shuffle = np.random.default_rng([self.sampler.seed, 3, self.sampler.epoch]).permutation(len(batches))
        yield from (batches[i].tolist() for i in shuffle)


def dealt(order: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The same examples, so that any run of them has each label in nearly the share it has in all, each label's in their order.

    The i-th of a label's n comes at (i + 1/2) / n of the way. Strata of equal shares make a batch's gradient vary less than
    examples drawn at random do (Zhao & Zhang 2014, Accelerating Minibatch Stochastic Gradient Descent using Stratified
    Sampling); the labels are those that the examples are trained with.
    """
    way = np.empty(len(order))
    for label in np.unique(labels[order]):
        where = np.flatnonzero(labels[order] == label)
        way[where] = (np.arange(len(where)) + 0.5) / len(where)
    return order[np.argsort(way, kind="stable")]


def cut(order: np.ndarray, size: int) -> list[np.ndarray]:
    """In parts of so many, the last one of what is left."""
    return [order[start : start + size] for start in range(0, len(order), size)]


def training_batches(
    tokens: Tokens, batch_size: int, seed: int, by_length: bool = True, labels: np.ndarray | None = None
) -> DataLoader:
    """Every example once an epoch. by_length: in batches of texts of like length, else drawn at random.

    labels, n: given, every batch has each label in nearly its share of the texts (`trainer.stratify`).
    """
    kind: Shuffled = (
        LengthGrouped(tokens.lengths, batch_size, seed, labels) if by_length else Shuffled(len(tokens), batch_size, seed, labels)
    )
    return DataLoader(range(len(tokens)), batch_sampler=kind, collate_fn=tokens.batch)  # type: ignore[arg-type]


def evaluation_batches(tokens: Tokens, batch_size: int = 64, most: int | None = None) -> DataLoader:
    """Every example once, longest first (a batch that does not fit into memory is the first one, or nearly).

    most: in place of so many texts, as many as make no more than so many tokens, each taken for as long as the longest; in
    eights, since what is done by text alone has a kernel for each count.
    """
    order = np.argsort(-tokens.lengths, kind="stable").tolist()
    batches, start = [], 0
    while start < len(order):
        count = batch_size
        if most is not None:
            count = max(1, most // max(1, int(tokens.lengths[order[start]])))
            count -= count % 8 if count > 8 else 0
        batches.append(order[start : start + count])
        start += count
    return DataLoader(range(len(tokens)), batch_sampler=batches, collate_fn=tokens.batch)  # type: ignore[arg-type]
