"""The parts that are drawn, by id: another draw would be another data set under the same run ids."""

from synthweight.data.examples import Example, LoadedSplit, data_hash
from synthweight.data.splits import hold_out, hold_out_fold, nested_subset

EXAMPLES = tuple(Example(str(i), f"t{i}", None, "abc"[i % 3]) for i in range(40))
SHA256 = data_hash(Example(f"large_real:{e.id}", e.text, None, e.label) for e in EXAMPLES)


def ids(examples):
    return [int(e.id) for e in examples]


def test_a_subset_is_drawn_from_data_hash_and_seed():
    assert ids(nested_subset(EXAMPLES, 10, SHA256, 3)) == [1, 2, 4, 13, 18, 23, 26, 30, 32, 33]


def test_what_is_held_out_is_drawn_from_the_data_hash():
    kept, held = hold_out(LoadedSplit("small_real", EXAMPLES, SHA256, "here"), 0.2)
    assert ids(held) == [6, 14, 16, 17, 24, 34, 35, 39]
    assert sorted(ids(kept) + ids(held)) == list(range(40))


def test_a_fold_is_drawn_from_the_sets_own_hash():
    named = tuple(Example(f"large_real:{e.id}", e.text, None, e.label) for e in EXAMPLES)
    _, left = hold_out_fold(named, 5, 2)
    assert [e.id for e in left] == [f"large_real:{i}" for i in (5, 11, 16, 18, 23, 24, 25, 36)]
