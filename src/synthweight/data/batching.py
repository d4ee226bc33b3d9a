"""Batches of texts, at random or of like length, in an order that seed and epoch alone decide."""

from collections.abc import Iterator

import numpy as np
from torch.utils.data import DataLoader, Sampler

from .tokenization import Tokens

WINDOW = 8  # batches: lengths are sorted within so many only, so that a batch's company is drawn anew every epoch


class EpochOrder:
    """A permutation of n examples for each epoch (Lightning calls `set_epoch`)."""

    def __init__(self, n: int, seed: int) -> None:
        self.n, self.seed, self.epoch = n, seed, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def draws(self, purpose: int) -> np.random.Generator:
        """What this epoch draws for one purpose: 2 the permutation, 3 the order of grouped batches, 4 where labels begin."""
        return np.random.default_rng([self.seed, purpose, self.epoch])

    def permutation(self) -> np.ndarray:
        return self.draws(2).permutation(self.n)


class Shuffled(Sampler[list[int]]):
    """Shuffles, deals the labels out where they are given, and cuts.

    Looks at the epoch when the first batch is asked for: after a resume Lightning makes the iterator before it says which
    epoch it is.
    """

    def __init__(self, n: int, batch_size: int, seed: int, labels: np.ndarray | None = None) -> None:
        self.batch_size, self.labels = batch_size, labels
        self.sampler = EpochOrder(n, seed)

    def __iter__(self) -> Iterator[list[int]]:
        order = dealt(self.sampler.permutation(), self.labels, self.sampler.draws(4))
        yield from (batch.tolist() for batch in cut(order, self.batch_size))

    def __len__(self) -> int:
        return -(-self.sampler.n // self.batch_size)


class LengthGrouped(Shuffled):
    """Shuffles, sorts by length within windows of `WINDOW` batches, cuts, and shuffles the batches.

    Labels, where they are given, are dealt out to the windows, and in each of them to its batches.
    """

    def __init__(self, lengths: np.ndarray, batch_size: int, seed: int, labels: np.ndarray | None = None) -> None:
        super().__init__(len(lengths), batch_size, seed, labels)
        self.lengths = lengths

    def __iter__(self) -> Iterator[list[int]]:
        draws = self.sampler.draws(4)
        batches: list[np.ndarray] = []
        for part in cut(dealt(self.sampler.permutation(), self.labels, draws), WINDOW * self.batch_size):
            part = part[np.argsort(self.lengths[part], kind="stable")]
            batches += cut(dealt(part, self.labels, draws), self.batch_size)
        shuffle = self.sampler.draws(3).permutation(len(batches))
        yield from (batches[i].tolist() for i in shuffle)


def dealt(order: np.ndarray, labels: np.ndarray | None, draws: np.random.Generator) -> np.ndarray:
    """The same examples, each label's in their order, so that any run of them has every label by its share, or nearly.

    The i-th of a label's n comes at (i + u) / n of the way, u in [0, 1) drawn for each label, so that rare ones do not meet.
    Examples drawn at random within strata, as many of each as its size asks, make a batch's gradient vary less than those drawn
    from all (Zhao & Zhang 2014, Accelerating Minibatch Stochastic Gradient Descent using Stratified Sampling). No labels: as is.
    """
    if labels is None:
        return order
    given, way = labels[order], np.empty(len(order))
    for label in np.unique(given):
        where = np.flatnonzero(given == label)
        way[where] = (np.arange(len(where)) + draws.random()) / len(where)
    return order[np.argsort(way, kind="stable")]


def cut(order: np.ndarray, size: int) -> list[np.ndarray]:
    """In parts of so many, the last one of what is left."""
    return [order[start : start + size] for start in range(0, len(order), size)]


def training_batches(
    tokens: Tokens, batch_size: int, seed: int, by_length: bool = True, labels: np.ndarray | None = None
) -> DataLoader:
    """Every example once an epoch. by_length: in batches of texts of like length, else drawn at random.

    labels, n: given, each batch has every label by its share of the texts, or nearly (`trainer.stratify`).
    """
    n = len(tokens)
    sampler = LengthGrouped(tokens.lengths, batch_size, seed, labels) if by_length else Shuffled(n, batch_size, seed, labels)
    return DataLoader(range(n), batch_sampler=sampler, collate_fn=tokens.batch)  # type: ignore[arg-type]


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
