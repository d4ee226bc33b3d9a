"""Batches of texts, at random or of like length, in an order that seed and epoch alone decide."""

from collections.abc import Iterator

import numpy as np
import torch
from torch.utils.data import DataLoader, Sampler

from .tokenization import TokenizedTexts

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
    """Shuffles and cuts.

    Looks at the epoch when the first batch is asked for: after a resume Lightning makes the iterator before it says which
    epoch it is.
    """

    def __init__(self, n: int, batch_size: int, seed: int) -> None:
        self.batch_size = batch_size
        self.sampler = EpochOrder(n, seed)

    def __iter__(self) -> Iterator[list[int]]:
        yield from (batch.tolist() for batch in cut(self.sampler.permutation(), self.batch_size))

    def __len__(self) -> int:
        return -(-self.sampler.n // self.batch_size)


class LengthGrouped(Shuffled):
    """Shuffles, sorts by length within windows of `WINDOW` batches, cuts, and shuffles the batches.

    Labels are dealt out to the windows, and in each of them to its batches.
    """

    def __init__(self, lengths: np.ndarray, labels: np.ndarray, batch_size: int, seed: int) -> None:
        super().__init__(len(lengths), batch_size, seed)
        self.lengths, self.labels = lengths, labels

    def __iter__(self) -> Iterator[list[int]]:
        draws = self.sampler.draws(4)
        batches: list[np.ndarray] = []
        for part in cut(dealt(self.sampler.permutation(), self.labels, draws), WINDOW * self.batch_size):
            part = part[np.argsort(self.lengths[part], kind="stable")]
            batches += cut(dealt(part, self.labels, draws), self.batch_size)
        shuffle = self.sampler.draws(3).permutation(len(batches))
        yield from (batches[i].tolist() for i in shuffle)


def dealt(order: np.ndarray, labels: np.ndarray, draws: np.random.Generator) -> np.ndarray:
    """The same examples, each label's in their order, so that any run of them has every label by its share, or nearly.

    The i-th of a label's n comes at (i + u) / n of the way, u in [0, 1) drawn for each label, so that rare ones do not meet.
    Examples drawn at random within strata, as many of each as its size asks, make a batch's gradient vary less than those drawn
    from all (Zhao & Zhang 2014, Accelerating Minibatch Stochastic Gradient Descent using Stratified Sampling).
    """
    given, way = labels[order], np.empty(len(order))
    for label in np.unique(given):
        where = np.flatnonzero(given == label)
        way[where] = (np.arange(len(where)) + draws.random()) / len(where)
    return order[np.argsort(way, kind="stable")]


def cut(order: np.ndarray, size: int) -> list[np.ndarray]:
    """In parts of so many, the last one of what is left."""
    return [order[start : start + size] for start in range(0, len(order), size)]


def training_batches(tokens: TokenizedTexts, labels: np.ndarray, batch_size: int, seed: int, batching: str) -> DataLoader:
    """Every example once per epoch.

    Args:
        tokens: n examples.
        labels: label positions, [n].
        batch_size: examples per batch.
        seed: with the epoch, decides the order.
        batching: "bucketed": examples of like length, every label by its share in each batch; "random": drawn at random.
    """
    n = len(tokens)
    bucketed = batching == "bucketed"
    sampler = LengthGrouped(tokens.lengths, labels, batch_size, seed) if bucketed else Shuffled(n, batch_size, seed)
    return DataLoader(range(n), batch_sampler=sampler, collate_fn=tokens.batch)  # type: ignore[arg-type]


def evaluation_batches(tokens: TokenizedTexts, max_tokens: int) -> DataLoader:
    """Every example once, longest first, so that a batch that does not fit into memory is the first one, or nearly.

    Args:
        tokens: n examples.
        max_tokens: of a batch, each example counted as long as the longest. More than eight examples come in eights: what is
            computed once per example has a kernel for each count.
    """
    order = np.argsort(-tokens.lengths, kind="stable").tolist()
    batches, start = [], 0
    while start < len(order):
        count = max(1, max_tokens // max(1, int(tokens.lengths[order[start]])))
        count -= count % 8 if count > 8 else 0
        batches.append(order[start : start + count])
        start += count
    # a generator of its own: an iterator draws a seed, and an evaluation more or less must not change the training
    own = torch.Generator()
    return DataLoader(range(len(tokens)), batch_sampler=batches, collate_fn=tokens.batch, generator=own)  # type: ignore[arg-type]
