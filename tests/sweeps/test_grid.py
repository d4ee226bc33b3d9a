"""Expansion of blocks and the command line."""

import re

import pytest

from synthweight.config import compose
from synthweight.config.schema import CONF
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


def test_glob_takes_the_choices_that_match():
    with compose.offline(CONF):
        assert grid.expand([{"loss": "glob(*imp)"}], ["seed=0"]) == [
            ["loss=dimp", "seed=0"],
            ["loss=imp", "seed=0"],
        ]
        with pytest.raises(UserError, match=r"^loss=glob\(none\*\): matches nothing; there are ce, dimp"):
            grid.expand([{"loss": "glob(none*)"}], [])
        with pytest.raises(UserError, match=r"^optim.lr=glob\(\*\): matches nothing; there are no choices"):
            grid.expand([], ["optim.lr=glob(*)"])


def test_what_cannot_be_counted_off_is_refused():
    for line, reason in (
        ("seed=range(0,1e12)", "more than 100,000 values"),
        ("optim.lr=interval(0,1)", "Can only enumerate"),
    ):
        with pytest.raises(UserError, match=rf"^{re.escape(line)}: {reason}"):
            grid.expand([], [line])


BLOCKS = r"hydra\.sweeper\.blocks must be a list of parameter maps"
FILES = {
    b"": "no sweep: it begins with 'defaults: ",
    b"hello\n": "no sweep: it begins with",
    b"- a\n- b\n": "no sweep: it begins with",
    b"hydra: {sweeper: {blocks: [{loss: ce}]}}\n": "no sweep: it begins with",
    b"defaults: [config]\nseed: \xff\n": "not UTF-8: save it as UTF-8",
    b"defaults: [config]\nhydra:\n\tmode: x\n": r"3: broken YAML \(found character",
    b"defaults: [config]\n# \0\n": r" broken YAML \(unacceptable character",
    b"a: &a [*a]\n": r" broken YAML \(maximum recursion depth",
    b"!!python/object/apply:os.system ['touch ran']\n": r"1: broken YAML \(could not determine a constructor",
    b"defaults: [config]\nhydra: {sweeper: {blocks: {loss: ce}}}\n": BLOCKS,
    b"defaults: [config]\nhydra: {sweeper: {blocks: [1]}}\n": BLOCKS,
    b"defaults: [config]\nhydra: {sweeper: {blocks: [null]}}\n": BLOCKS,
    b"defaults: [config]\nhydra: {sweeper: {blocks: [[loss, ce]]}}\n": BLOCKS,
}


@pytest.mark.parametrize("content", FILES)
def test_a_file_that_is_no_sweep_is_one_line(tmp_path, monkeypatch, content):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_bytes(content)
    with pytest.raises(UserError, match=rf"^mine\.yaml:\s?{FILES[content]}"):
        grid.find_sweep("mine.yaml")
    assert not (tmp_path / "ran").exists()


def test_unknown_sweep_says_what_there_is():
    with pytest.raises(UserError, match="nothing: no such sweep; there are .*demo"):
        grid.find_sweep("nothing")
