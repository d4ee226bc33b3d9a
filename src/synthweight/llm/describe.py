"""What a set of examples is like, in figures: labels, lengths, repeats, diversity, and how far it is from real ones."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import fmean, median
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from ..data.examples import Example, overlap_key
from ..models import pretrained

if TYPE_CHECKING:
    from ..config.schema import Model

Words = list[str]


@dataclass(frozen=True)
class Duplicates:
    """How many examples repeat an earlier one: its text but for case and punctuation, or nearly its text."""

    exact: int
    near: int


@dataclass(frozen=True)
class Spread:
    """Embeddings of a set.

    Attributes:
        distance: Mean cosine distance of two different examples, 0 to 2.
        vendi: Vendi score (Friedman and Dieng 2023): the effective number of different examples, 1 to n.
    """

    distance: float
    vendi: float


@dataclass(frozen=True)
class Comparison:
    """A set beside a real one.

    Attributes:
        n: Examples of the real set.
        same_text: Examples of the set whose text is one of the real ones, but for case and punctuation.
        vocabulary_real: Share of the set's different words that real texts have too.
        vocabulary_covered: Share of the real texts' different words that the set has too.
        to_real: Mean cosine distance of an example to the nearest real one; None without embeddings.
        from_real: The same of a real example to the nearest of the set.
        within_real: The same of a real example to the nearest other real one, for comparison.
    """

    n: int
    same_text: int
    vocabulary_real: float | None
    vocabulary_covered: float | None
    to_real: float | None
    from_real: float | None
    within_real: float | None


@dataclass(frozen=True)
class Description:
    """The figures of a set.

    Attributes:
        n: How many examples there are.
        labels: Examples by label.
        words: Mean, median and 95th percentile of the number of words; None without examples.
        duplicates: Examples that repeat an earlier one.
        vocabulary: Different words.
        distinct_1, distinct_2, distinct_3: See `distinct_n`.
        self_bleu_4: See `self_bleu`.
        embeddings: Diversity by the encoder; None without one.
        real: The comparison with real examples; None without them.
    """

    n: int
    labels: dict[str, int]
    words: dict[str, float] | None
    duplicates: Duplicates
    vocabulary: int
    distinct_1: float | None
    distinct_2: float | None
    distinct_3: float | None
    self_bleu_4: float | None
    embeddings: Spread | None
    real: Comparison | None

    def as_dict(self) -> dict[str, Any]:
        """All figures as plain values."""
        return asdict(self)


def describe_examples(
    examples: Sequence[Example],
    real: Sequence[Example] | None = None,
    vectors: Sequence[Float[ndarray, "n d"]] | None = None,
) -> Description:
    """Describes a set.

    Args:
        examples: The set.
        real: Real examples that it is compared with.
        vectors: Embeddings of the set and, where there are real examples, of those; rows of length 1.
    """
    texts = [split_words(e) for e in examples]
    lengths = sorted(map(len, texts))
    words: dict[str, float] | None = None
    if lengths:
        p95 = lengths[math.ceil(0.95 * len(lengths)) - 1]
        words = {"mean": round(fmean(lengths), 2), "median": median(lengths), "p95": p95}
    return Description(
        n=len(examples),
        labels=dict(sorted(Counter(e.label for e in examples).items())),
        words=words,
        duplicates=count_duplicates(examples),
        vocabulary=len({word for text in texts for word in text}),
        distinct_1=distinct_n(texts, 1),
        distinct_2=distinct_n(texts, 2),
        distinct_3=distinct_n(texts, 3),
        self_bleu_4=self_bleu(texts),
        embeddings=spread(vectors[0]) if vectors is not None and len(examples) > 1 else None,
        real=None if real is None else compare(examples, real, vectors),
    )


def split_words(example: Example) -> Words:
    """The words of both texts, casefolded, by white space."""
    return f"{example.text} {example.text_pair or ''}".casefold().split()


def count_duplicates(examples: Sequence[Example]) -> Duplicates:
    """How many examples repeat an earlier one."""
    different = len({overlap_key(e) for e in examples})
    if different < 2:
        return Duplicates(len(examples) - different, 0)
    from ..data.duplicates import near_duplicates  # scikit-learn takes a second

    groups = len(set(near_duplicates(examples).tolist()))
    return Duplicates(len(examples) - different, different - groups)


def spread(vectors: Float[ndarray, "n d"]) -> Spread:
    """The diversity of embeddings: rows of length 1, at least two."""
    n = len(vectors)
    total = vectors.sum(axis=0, dtype=np.float64)
    cosine = (float(total @ total) - n) / (n * (n - 1))
    shares = np.linalg.eigvalsh(vectors.T.astype(np.float64) @ vectors / n)
    shares = shares[shares > 1e-12]
    return Spread(round(1 - cosine, 4), round(float(np.exp(-(shares * np.log(shares)).sum())), 2))


def compare(
    examples: Sequence[Example], real: Sequence[Example], vectors: Sequence[Float[ndarray, "n d"]] | None
) -> Comparison:
    """A set beside a real one. Arguments as those of `describe_examples`."""
    keys = {overlap_key(e) for e in real}
    own, theirs = ({word for e in side for word in split_words(e)} for side in (examples, real))
    to_real = from_real = within_real = None
    if vectors is not None and examples:
        from ..models.embeddings import largest_cosine

        to_real = _mean_distance(largest_cosine(vectors[0], vectors[1]))
        from_real = _mean_distance(largest_cosine(vectors[1], vectors[0]))
        if len(real) > 1:
            within_real = _mean_distance(largest_cosine(vectors[1], vectors[1], others=True))
    return Comparison(
        n=len(real),
        same_text=sum(overlap_key(e) in keys for e in examples),
        vocabulary_real=round(len(own & theirs) / len(own), 4) if own else None,
        vocabulary_covered=round(len(own & theirs) / len(theirs), 4) if theirs else None,
        to_real=to_real,
        from_real=from_real,
        within_real=within_real,
    )


def embed_sets(model: "Model", sets: Sequence[Sequence[Example]], max_length: int) -> list[ndarray]:
    """Embeddings of several sets by one encoder, on this machine's best device.

    Args:
        model: The encoder.
        sets: The sets.
        max_length: Tokens from which a text is cut.

    Raises:
        UserError: The encoder is not there.
    """
    from ..models.embeddings import embed  # torch takes seconds
    from ..training.devices import device

    return embed(pretrained.locate(model), sets, max_length, device("auto"))


def _mean_distance(cosines: ndarray) -> float:
    return round(float(1 - cosines.mean()), 4)


def distinct_n(texts: Sequence[Words], n: int) -> float | None:
    """Distinct-n: different n-grams over all n-grams of the set, 0 to 1 (Li et al. 2016). It falls as a set
    grows.
    """
    found = [gram for text in texts for gram in n_grams(text, n)]
    return round(len(set(found)) / len(found), 4) if found else None


def n_grams(text: Words, n: int) -> list[tuple[str, ...]]:
    """The n-grams of a text, in its order."""
    return [tuple(text[i : i + n]) for i in range(len(text) - n + 1)]


def self_bleu(texts: Sequence[Words], order: int = 4) -> float | None:
    """Self-BLEU-4: the mean BLEU of each text with all others as references, 0 (diverse) to 1 (Zhu et al.
    2018).

    BLEU = BP · exp(mean_n log p_n), n = 1…4, p_n = clipped matches / n-grams, orders that a text is too short
    for left out, a zero replaced by 1/(2·n-grams) as smoothing; BP = min(1, exp(1 − r/c)), r the closest
    other length.
    """
    if len(texts) < 2:
        return None
    counts = [[Counter(n_grams(text, n)) for text in texts] for n in range(1, order + 1)]
    # n-gram → highest count, whose, the next highest
    highest: list[dict[tuple[str, ...], tuple[int, int, int]]] = []
    for of_order in counts:
        best: dict[tuple[str, ...], tuple[int, int, int]] = {}
        for i, counter in enumerate(of_order):
            for gram, count in counter.items():
                top, owner, second = best.get(gram, (0, -1, 0))
                best[gram] = (count, i, top) if count > top else (top, owner, max(second, count))
        highest.append(best)
    lengths = Counter(map(len, texts))
    scores = []
    for i, text in enumerate(texts):
        logs = []
        for of_order, best in zip(counts, highest, strict=True):
            total = sum(of_order[i].values())
            if total:
                others = {
                    gram: best[gram][2] if best[gram][1] == i else best[gram][0] for gram in of_order[i]
                }
                matches = sum(min(count, others[gram]) for gram, count in of_order[i].items())
                logs.append(math.log(matches / total if matches else 1 / (2 * total)))
        rest = [n for n, times in lengths.items() if times > (n == len(text))]
        closest = min(rest, key=lambda n: (abs(n - len(text)), n))
        penalty = min(1.0, math.exp(1 - closest / len(text))) if text else 0.0
        scores.append(penalty * math.exp(fmean(logs)) if logs else 0.0)
    return round(fmean(scores), 4)
