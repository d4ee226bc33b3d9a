"""Expansion of blocks and the command line."""

import pytest

from synthweight.errors import UserError
from synthweight.sweeps import grid


def test_blocks_are_products_united():
    listed = [
        {"loss": "ce,dimp", "seed": "range(0,2)"},
        {"loss": "dimp", "seed": 1},
        {"source.n": [10, None]},
    ]
    jobs = grid.expand(listed, [])
    assert jobs == [
        ["loss=ce", "seed=0"], ["loss=ce", "seed=1"], ["loss=dimp", "seed=0"], ["loss=dimp", "seed=1"],
        ["source.n=10"], ["source.n=null"],
    ]  # fmt: skip


def test_the_command_line_replaces_and_adds():
    jobs = grid.expand(
        [{"loss": "ce", "seed": "range(0,9)"}, {"loss": "imp"}], ["seed=1,2", "model=mpnet_base"]
    )
    assert jobs == [
        [f"loss={loss}", f"seed={s}", "model=mpnet_base"] for loss in ("ce", "imp") for s in (1, 2)
    ]  # fmt: skip


def test_a_plain_multirun_is_one_block():
    assert len(grid.expand([], ["loss=ce,imp", "seed=range(0,3)"])) == 6


def test_quotes_survive():
    assert grid.expand([], ["dataset.path='a b,c'"]) == [["dataset.path='a b,c'"]]


def test_a_value_given_twice_is_refused():
    with pytest.raises(UserError, match="loss=ce,ce: value ce is given twice"):
        grid.expand([{"loss": "ce,ce"}], [])


def test_unknown_sweep_says_what_there_is():
    with pytest.raises(UserError, match="nothing: no such sweep; there are .*demo"):
        grid.find_sweep("nothing")
