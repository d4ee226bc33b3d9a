"""What a set of examples is like, in figures: by hand."""

import math

import numpy as np
import pytest

from synthweight.data.examples import Example
from synthweight.llm import describe
from synthweight.llm.describe import Duplicates, describe_examples


def examples(*texts: str, label: str = "x") -> list[Example]:
    return [Example(str(i), text, None, label) for i, text in enumerate(texts)]


def test_distinct_n_and_self_bleu():
    texts = [["a", "b", "c"], ["a", "b", "d"]]
    assert describe.distinct_n(texts, 1) == round(4 / 6, 4)
    assert describe.distinct_n(texts, 2) == round(3 / 4, 4)
    # unigrams 2 of 3, bigrams 1 of 2, the one trigram smoothed; equal lengths
    one = (2 / 3 * 1 / 2 * 1 / 2) ** (1 / 3)
    assert describe.self_bleu(texts) == pytest.approx(one, abs=1e-4)
    assert describe.self_bleu([["a", "b"], ["a", "b"], ["a", "b"]]) == 1
    assert describe.self_bleu([["a"]]) is None
    short = [["a"], ["a", "b", "c"]]
    brief, long = math.exp(1 - 3), (1 / 3 * 1 / 4 * 1 / 2) ** (1 / 3)
    assert describe.self_bleu(short) == pytest.approx((brief + long) / 2, abs=1e-4)


def test_figures_of_a_set():
    d = describe_examples([Example("0", "A b", "c", "x"), Example("1", "a b", "d e", "y")])
    assert (d.n, d.labels, d.vocabulary) == (2, {"x": 1, "y": 1}, 5)
    assert d.words == {"mean": 3.5, "median": 3.5, "p95": 4}
    assert (d.embeddings, d.real) == (None, None)
    empty = describe_examples([], [])
    assert (empty.n, empty.words, empty.distinct_1, empty.self_bleu_4, empty.labels) == (
        0,
        None,
        None,
        None,
        {},
    )


def test_duplicates_are_counted_once_each():
    texts = ["It broke.", "it broke!", "IT BROKE", "the strap of this bag came loose after a week of use"]
    d = describe_examples(examples(*texts, "the strap of this bag came loose after a week of uses", "fine"))
    assert d.duplicates == Duplicates(exact=2, near=1)
    assert describe_examples(examples("same", "Same!")).duplicates == Duplicates(exact=1, near=0)


def test_beside_a_real_set():
    vectors = np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([[0.6, 0.8], [1.0, 0.0], [-1.0, 0.0]])
    d = describe_examples(examples("a b", "c d!"), examples("A e", "c D", "f g"), vectors)
    assert d.embeddings is not None
    assert (d.embeddings.distance, d.embeddings.vendi) == (1, 2)  # at right angles: two different examples
    assert d.real is not None
    assert (d.real.n, d.real.same_text) == (3, 1)
    assert (d.real.vocabulary_real, d.real.vocabulary_covered) == (0.5, round(2 / 6, 4))
    assert d.real.to_real == pytest.approx((0 + 0.2) / 2)
    assert d.real.from_real == pytest.approx((0.2 + 0 + 1) / 3, abs=1e-4)
    assert d.real.within_real == pytest.approx((0.4 + 0.4 + 1.6) / 3, abs=1e-4)


def test_the_vendi_score_counts_different_examples():
    same = np.tile([1.0, 0.0, 0.0], (5, 1))
    assert describe.spread(same).vendi == 1
    assert describe.spread(same).distance == 0
    assert describe.spread(np.repeat(np.eye(3), 4, axis=0)).vendi == 3
