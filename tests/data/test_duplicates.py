"""Near-duplicates of a set."""

import numpy as np

from synthweight.data import duplicates
from synthweight.data.duplicates import near_duplicates
from synthweight.data.examples import Example


def test_near_duplicates_are_the_same_in_blocks(monkeypatch):
    rng = np.random.default_rng(0)
    texts = [
        " ".join(rng.choice(["alpha", "beta", "gamma", "delta", "omega", "sigma"], size=4)) for _ in range(60)
    ]
    examples = [Example(str(i), text, None, "a") for i, text in enumerate(texts)]
    whole = near_duplicates(examples)
    monkeypatch.setattr(duplicates, "BLOCK", 7)
    same = whole[:, None] == whole[None, :]
    again = near_duplicates(examples)
    np.testing.assert_array_equal(same, again[:, None] == again[None, :])
