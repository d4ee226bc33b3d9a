"""Parts of a set of examples, drawn from its hash and a seed: nested subsets, what is held out, folds."""

from collections import Counter
from collections.abc import Callable, Hashable

import numpy as np

from ..errors import UserError
from .examples import Example, Examples, LoadedSplit, data_hash, text_hash
from .on_disk import select


def stratified_permutation(examples: Examples, entropy: list[int]) -> list[int]:
    """A stratified permutation: every prefix has each class in proportion, so that subsets are nested.

    Within a class the order is drawn; across classes the j-th of n_c examples comes at (j + u) / n_c, with
    one u per class, and ties fall to the class name.

    Args:
        examples: n of them.
        entropy: seeds the draw (`numpy.random.default_rng`).

    Returns:
        The positions of the examples in their new order.
    """
    rng = np.random.default_rng(entropy)
    places: list[tuple[float, str, int]] = []
    labels = [e.label for e in examples]
    for label in sorted(set(labels)):
        members = [i for i, own in enumerate(labels) if own == label]
        offset = rng.uniform()
        places += [
            ((j + offset) / len(members), label, int(i)) for j, i in enumerate(rng.permutation(members))
        ]
    return [i for _, _, i in sorted(places)]


def hash_entropy(sha256: str) -> int:
    """A data hash as a number to seed a draw with.

    Args:
        sha256: hexadecimal.
    """
    return int(sha256[:16], 16)


def nested_subset(
    examples: Examples, n: int | None, sha256: str, seed: int, setting: str = "source.n"
) -> Examples:
    """The first n of one stratified permutation by data hash and seed, in the order of the source.

    Args:
        examples: Of one split, less what is not trained on.
        n: How many; None = all.
        sha256: Data hash of the split.
        seed: Of the run.
        setting: The name of n, for the message.

    Raises:
        UserError: there are fewer than n examples.
    """
    if n is None:
        return examples
    if n > len(examples):
        raise UserError(f"{setting}={n}: there are {len(examples)} examples")
    return select(examples, sorted(stratified_permutation(examples, [hash_entropy(sha256), seed])[:n]))


def hold_out(small: LoadedSplit, share: float) -> tuple[Examples, Examples]:
    """D_P' in two, stratified and drawn from the data hash alone: (kept for training, held out).

    Args:
        small: D_P'.
        share: of its examples to hold out; 0: none.

    Raises:
        UserError: One of the two would lack a class; a share that would do is named.
    """
    if share == 0:
        return small.examples, ()
    order = stratified_permutation(small.examples, [hash_entropy(small.sha256)])
    labels = [e.label for e in small.examples]

    def absent(n: int) -> list[str]:
        return sorted(
            small.labels - {labels[i] for i in order[n:]} | small.labels - {labels[i] for i in order[:n]}
        )

    held_out = round(share * len(order))
    if missing := absent(held_out):
        shares = [s / 100 for s in range(1, 100) if not absent(round(s / 100 * len(order)))]
        nearest = min(shares, key=lambda s: abs(s - share), default=None)
        use = f"{nearest:g} would do" if nearest is not None else "no share would do, use selection=last"
        raise UserError(
            f"{small.where}: holding out {share:g} of D_P' leaves a part without class {missing[0]!r}: {use}"
        )
    return select(small.examples, sorted(order[held_out:])), select(small.examples, sorted(order[:held_out]))


def hold_out_fold(examples: Examples, k: int, fold: int) -> tuple[Examples, Examples]:
    """A training set in two: (all but one fold of k, that fold), drawn from the data hash of the set itself.

    Args:
        examples: the training set.
        k: how many folds.
        fold: the one to hold out, from 0.

    Raises:
        UserError: a class has fewer different texts than there are folds.
    """
    # a text counts for its first twin's class
    different = Counter({text_hash(e): e.label for e in reversed(examples)}.values())
    rarest = min(sorted({e.label for e in examples}), key=lambda label: different[label])
    if different[rarest] < k:
        raise UserError(
            f"source.folds={k}: class {rarest!r} has {different[rarest]} different texts to train on: every fold needs one"
        )
    return split_fold(examples, assign_folds(examples, k, hash_entropy(data_hash(examples)) % 2**32), fold)


def assign_folds(
    examples: Examples, k: int, seed: int, key: Callable[[Example], Hashable] = text_hash
) -> np.ndarray:
    """The fold of each example, [n], int: stratified, and equal texts are in one fold.

    Args:
        examples: n of them.
        k: how many folds.
        seed: of the draw.
        key: texts with the same key are equal.
    """
    first: dict[Hashable, int] = {}
    labels = [e.label for e in examples]
    owner = np.array([first.setdefault(key(e), i) for i, e in enumerate(examples)])
    heads = np.unique(owner)
    from sklearn.model_selection import StratifiedKFold  # takes a second: most runs have no folds

    splitter = StratifiedKFold(k, shuffle=True, random_state=seed)
    fold_of = np.zeros(len(examples), dtype=np.int64)  # of the heads, then by them of all
    for fold, (_, held_out) in enumerate(splitter.split(heads, [labels[i] for i in heads])):
        fold_of[heads[held_out]] = fold
    return fold_of[owner]


def split_fold(examples: Examples, fold_of: np.ndarray, fold: int) -> tuple[Examples, Examples]:
    """(All but one fold, that fold), each in the order of the examples.

    Args:
        examples: n of them.
        fold_of: the fold of each, [n], from `assign_folds`.
        fold: the one to split off.
    """
    return select(examples, np.flatnonzero(fold_of != fold).tolist()), select(
        examples, np.flatnonzero(fold_of == fold).tolist()
    )
