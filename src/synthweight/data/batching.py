"""Batches of texts, at random or of like length, in an order that seed and epoch alone decide."""

from collections.abc import Iterator
from enum import IntEnum

import numpy as np
import torch
from torch.utils.data import DataLoader, Sampler

from .tokenization import TokenizedTexts

WINDOW = (
    8  # batches: lengths are sorted within this many, so that a batch's examples are drawn anew every epoch
)


class Stream(IntEnum):
    """What an epoch's random numbers are for: each purpose has a generator of its own."""

    PERMUTATION = 2
    BATCH_ORDER = 3
    LABEL_OFFSETS = 4


class EpochOrder:
    """The random numbers of each epoch, by seed and epoch.

    Args:
        n: the number of examples.
        seed: of the training.
    """

    def __init__(self, n: int, seed: int) -> None:
        self.n, self.seed, self.epoch = n, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Lightning calls it."""
        self.epoch = epoch

    def rng(self, stream: Stream) -> np.random.Generator:
        """This epoch's generator for one purpose."""
        return np.random.default_rng([self.seed, int(stream), self.epoch])

    def permutation(self) -> np.ndarray:
        """This epoch's order of the examples, [n]."""
        return self.rng(Stream.PERMUTATION).permutation(self.n)


class RandomBatchSampler(Sampler[list[int]]):
    """Shuffles the examples and cuts them into batches.

    Looks at the epoch when the first batch is requested: after a resume Lightning makes the iterator before
    it says which epoch it is.

    Args:
        n: the number of examples.
        batch_size: examples per batch.
        seed: of the training.
    """

    def __init__(self, n: int, batch_size: int, seed: int) -> None:
        self.batch_size = batch_size
        self.sampler = EpochOrder(n, seed)

    def __iter__(self) -> Iterator[list[int]]:
        yield from (batch.tolist() for batch in chunk(self.sampler.permutation(), self.batch_size))

    def __len__(self) -> int:
        return -(-self.sampler.n // self.batch_size)


class LengthGroupedBatchSampler(RandomBatchSampler):
    """Batches of examples of like length, shuffled.

    Shuffles the examples, sorts them by length within windows of `WINDOW` batches, cuts them, and shuffles
    the batches.

    Labels are spread evenly over the windows, and in each of them over its batches.

    Args:
        lengths: of the examples, [n].
        labels: label positions, [n].
        batch_size: examples per batch.
        seed: of the training.
    """

    def __init__(self, lengths: np.ndarray, labels: np.ndarray, batch_size: int, seed: int) -> None:
        super().__init__(len(lengths), batch_size, seed)
        self.lengths, self.labels = lengths, labels

    def __iter__(self) -> Iterator[list[int]]:
        rng = self.sampler.rng(Stream.LABEL_OFFSETS)
        batches: list[np.ndarray] = []
        for window in chunk(
            stratified_order(self.sampler.permutation(), self.labels, rng), WINDOW * self.batch_size
        ):
            window = window[np.argsort(self.lengths[window], kind="stable")]
            batches += chunk(stratified_order(window, self.labels, rng), self.batch_size)
        order = self.sampler.rng(Stream.BATCH_ORDER).permutation(len(batches))
        yield from (batches[i].tolist() for i in order)


def stratified_order(order: np.ndarray, labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The examples in an order in which any stretch has every label by its share, or nearly.

    Each label's examples keep their order.

    The i-th of a label's n comes at (i + u) / n of the way, u in [0, 1) drawn for each label, so that rare
    ones do not meet. Examples drawn at random within strata, as many of each as its size asks, make a batch's
    gradient vary less than those drawn from all (Zhao & Zhang 2014, Accelerating Minibatch Stochastic
    Gradient Descent using Stratified Sampling).

    Args:
        order: positions of examples.
        labels: label positions of all examples, [n].
        rng: of the offsets u.
    """
    given, way = labels[order], np.empty(len(order))
    for label in np.unique(given):
        members = np.flatnonzero(given == label)
        way[members] = (np.arange(len(members)) + rng.random()) / len(members)
    return order[np.argsort(way, kind="stable")]


def chunk(order: np.ndarray, size: int) -> list[np.ndarray]:
    """Parts of this size, the last one of what remains.

    Args:
        order: positions of examples.
        size: of each part.
    """
    return [order[start : start + size] for start in range(0, len(order), size)]


def training_batches(
    tokens: TokenizedTexts, labels: np.ndarray, batch_size: int, seed: int, batching: str
) -> DataLoader:
    """Every example once per epoch.

    Args:
        tokens: n examples.
        labels: label positions, [n].
        batch_size: examples per batch.
        seed: with the epoch, decides the order.
        batching: "bucketed": examples of like length, every label by its share in each batch; "random": drawn
            at random.
    """
    n = len(tokens)
    bucketed = batching == "bucketed"
    sampler = (
        LengthGroupedBatchSampler(tokens.lengths, labels, batch_size, seed)
        if bucketed
        else RandomBatchSampler(n, batch_size, seed)
    )
    return DataLoader(range(n), batch_sampler=sampler, collate_fn=tokens.batch)  # type: ignore[arg-type]


def evaluation_batches(tokens: TokenizedTexts, max_tokens: int) -> DataLoader:
    """Every example once, longest first: a batch that does not fit into memory is the first one, or nearly.

    Args:
        tokens: n examples.
        max_tokens: of a batch, each example counted as long as the longest. More than eight examples come in
            eights: what is computed once per example has a kernel for each count.
    """
    order = np.argsort(-tokens.lengths, kind="stable").tolist()
    batches, start = [], 0
    while start < len(order):
        count = max(1, max_tokens // max(1, int(tokens.lengths[order[start]])))
        count -= count % 8 if count > 8 else 0
        batches.append(order[start : start + count])
        start += count
    # a generator of its own: an iterator draws a seed, and an evaluation more or less must not change the
    # training
    own = torch.Generator()
    return DataLoader(range(len(tokens)), batch_sampler=batches, collate_fn=tokens.batch, generator=own)  # type: ignore[arg-type]
