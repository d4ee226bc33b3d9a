"""Harm by the rule of docs/format.md, and who gets to see it."""

from collections import Counter

import numpy as np
import pytest

from synthweight.data import sources
from synthweight.data.corruption import corrupt
from synthweight.data.examples import Example, data_hash
from synthweight.errors import UserError
from synthweight.runs import run
from synthweight.runs.identity import identify
from synthweight.runs.store import Store

LABELS = ("a", "b", "c")
OTHER = tuple(Example(f"synthetic:{i}", f"other {i}", None, "z") for i in range(7))
SHARES = (0.1, 0.2, 0.3)


def examples(n=40, pair=False):
    return tuple(
        Example(f"large_real:{i}", f"t{i}", f"p{i}" if pair else None, LABELS[i % 3]) for i in range(n)
    )


def test_the_rule_by_hand():
    out = corrupt(examples(), LABELS, 5, *SHARES, "financial", OTHER)
    order = np.random.default_rng([5, 1]).permutation(40).tolist()
    swapped, duplicated = order[:4], order[4:12]
    assert Counter(e.kind for e in out) == {"original": 28, "swapped": 4, "duplicated": 16, "unrelated": 12}
    for i in swapped:
        assert (out[i].id, out[i].kind, out[i].origin) == (f"large_real:{i}", "swapped", f"large_real:{i}")
        assert out[i].label != LABELS[i % 3]
    twins = out[40:48]
    assert [e.id for e in twins] == [f"large_real:{i}+dup1" for i in duplicated]
    for i, twin in zip(duplicated, twins, strict=True):
        assert (twin.text, twin.label, twin.kind, twin.origin) == (
            f"t{i}",
            LABELS[i % 3],
            "duplicated",
            f"large_real:{i}",
        )
        assert out[i].kind == "duplicated"
    for k, e in enumerate(out[48:]):
        assert e.origin is not None
        assert e.id == f"{e.origin}+other{k}"
        assert e.origin.startswith("financial/synthetic:")
        assert e.label in LABELS
    assert len({e.id for e in out}) == len(out)


def test_one_corrupted_set_is_pinned():
    """Every draw: which examples, their new labels, the unrelated texts and their labels."""
    out = corrupt(examples(), LABELS, 5, *SHARES, "financial", OTHER)
    assert data_hash(out) == "28b66608a425ac865db5433ad1be156b4de560077cb9f0cac41f02c8d3d36ca1"


def test_seeded_and_nothing_at_zero():
    assert corrupt(examples(), LABELS, 0, *SHARES, "o", OTHER) == corrupt(
        examples(), LABELS, 0, *SHARES, "o", OTHER
    )
    assert corrupt(examples(), LABELS, 0, *SHARES, "o", OTHER) != corrupt(
        examples(), LABELS, 1, *SHARES, "o", OTHER
    )
    assert corrupt(examples(), LABELS, 0, 0.0, 0.0, 0.0, "o", OTHER) == examples()


def test_new_labels_are_uniform_over_the_others():
    out = corrupt(
        tuple(Example(str(i), "t", None, "a") for i in range(3000)), LABELS, 0, 1.0, 0.0, 0.0, "o", OTHER
    )
    assert Counter(e.label for e in out)["a"] == 0
    assert abs(Counter(e.label for e in out)["b"] - 1500) < 150


def test_pairs_get_two_texts():
    out = corrupt(examples(pair=True), LABELS, 0, 0.0, 0.0, 0.5, "o", OTHER)
    assert all(e.text_pair is not None and e.text_pair.startswith("other") for e in out[40:])


def test_a_noisy_run_its_row_and_its_checkers(bound):
    job = bound("source=noisy", "loss=imp", "corruption.swapped=0.3")
    data = sources.build_run_data(job)
    assert Counter(e.kind for e in data.train) == {
        "original": 54,
        "swapped": 27,
        "duplicated": 18,
        "unrelated": 9,
    }
    identity = identify(job)
    # the diversity checker sees the same harm
    assert identity.checkers["diversity"].run.corruption == job.corruption
    assert not identity.checkers["quality"].run.corruption.active  # the quality checker sees none
    assert identity.checkers["quality"].id == identify(bound("loss=dimp")).checkers["quality"].id
    run.train(job)
    store = Store(job.paths.outputs)
    lines = [x for x in store.table(identity.id).to_pylist() if x["split"] == "train" and x["epoch"] == 1]
    assert Counter(x["kind"] for x in lines) == Counter(e.kind for e in data.train)
    row = store.row(identity.id)
    assert set(row["data"]) == {"large_real", "small_real", "test", "other"}
    # a swapped label is scored as it stands, not as it was
    swapped = next(e for e in data.train if e.kind == "swapped")
    scores, _ = run.score_labels(store, identity, "quality", data)
    at = [e.id for e in data.train].index(swapped.id)
    before = next(e for e in sources.build_run_data(bound("source=large_real")).train if e.id == swapped.id)
    assert before.label != swapped.label
    assert np.isfinite(scores[at])


def test_any_source_can_be_corrupted(bound):
    data = sources.build_run_data(bound("source=synthetic", "corruption=noisy", "corruption.unrelated=0"))
    assert Counter(e.kind for e in data.train)["swapped"] == 10
    assert identify(bound("corruption=noisy")).id != identify(bound()).id
    assert identify(bound("corruption.other=mrpc")).id == identify(bound()).id


def test_refusals(bound):
    with pytest.raises(UserError, match="source=noisy with no corruption"):
        bound("source=noisy", "corruption.swapped=0", "corruption.duplicated=0", "corruption.unrelated=0")
    with pytest.raises(UserError, match=r"corruption\.swapped must be a share"):
        bound("source=noisy", "corruption.swapped=1.5")
    with pytest.raises(
        UserError, match="corruption.other=imdb: no committed set of that name; there are financial"
    ):
        sources.build_run_data(bound("source=noisy", "corruption.other=imdb"))
