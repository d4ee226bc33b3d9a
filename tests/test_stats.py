import itertools
import statistics

import pytest

from synthweight.stats import spread


def test_mean_and_sample_deviation():
    s = spread([1.0, 2.0, 4.0])
    assert (s.mean, s.sd, s.n) == (pytest.approx(7 / 3), pytest.approx(statistics.stdev([1, 2, 4])), 3)


def test_one_value_has_no_deviation():
    assert spread([5.0]).sd is None


def test_none_is_an_error():
    with pytest.raises(ValueError, match="no values"):
        spread([])


def test_any_order_gives_the_same_bits():
    values = [0.1, 0.7, 1e-9, 3.3]
    assert len({(spread(p).mean, spread(p).sd) for p in itertools.permutations(values)}) == 1
