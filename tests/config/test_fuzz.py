"""Damaged overrides are composed, or refused in one line: typed for one run, for several, and in a sweep's blocks."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.fuzz import FUZZ, damaged
from synthweight.cli.hydra_app import check_flags
from synthweight.config import bind, compose
from synthweight.config.schema import CONF
from synthweight.errors import UserError
from synthweight.sweeps.grid import expand

LINES = [
    "loss=dimp", "loss=focal", "seed=0", "seed=0,1", "seed=range(0,3)", "optim.lr=1e-4",
    "dataset.path='a b, c'", "dataset=local", "dataset.labels=[yes,no]", "dataset.sha256.test=abc",
    "dataset.sha256={test:abc}", "weighting.clip=null", "paths.outputs=2024_11_28", "model.path=é #&;~(1)",
    "source.n=1_000", "trainer.keep_model=true", "ablation=clipped_weights", "corruption.swapped=0.1",
    "checker.quality.epochs=3", "optim.epochs=choice(1,2)", "logger.project=${dataset.name}",
    "loss.gamma=glob(*)", "~ablation", "+experiment=small", "++seed=1", "source.path=C:\\\\a\\\\b",
    "optim.schedule=\"linear\"", "seed=sort(3,1)", "paths.data=tag(a,b)",
]  # fmt: skip
PIECES = [
    "=", ",", ".", "'", '"', "[", "]", "{", "}", "(", ")", ":", "$", "${", "${oc.env:HOME}", "${seed}",
    "${.name}", "${recipe:1}", "\\", "/", "@", "~", "+", "++", "-", "--", "#", " ", "\t", "\n", "\0", "é",
    "👎", "\ud800", "null", "true", "nan", "inf", "-1", "1e999", "9" * 400, "range(", "choice(", "glob(",
    "interval(0,1)", "shuffle(", "str(", "???", "hydra.sweeper.blocks=", "*", "%", "seed", "loss",
]  # fmt: skip
ONE = damaged(LINES, PIECES)


@pytest.fixture(scope="module")
def composer():
    with compose.offline(CONF):
        yield compose.Composer("config")


@FUZZ
@given(lines=st.lists(ONE, min_size=1, max_size=2))
def test_damaged_overrides_compose_or_are_refused_in_one_line(composer, lines):
    refused_in_one_line(lambda: composer.run(lines))


@FUZZ
@given(lines=st.lists(ONE, min_size=1, max_size=2))
def test_damaged_overrides_of_several_runs_expand_or_are_refused_in_one_line(composer, lines):
    refused_in_one_line(lambda: expand([{"loss": "ce,imp"}, {}], lines))
    refused_in_one_line(lambda: check_flags(lines))


@FUZZ
@given(
    keys=st.lists(st.one_of(ONE, st.sampled_from(sorted(bind.keys()))), max_size=2),
    values=st.lists(
        st.one_of(ONE, st.sampled_from([None, True, 1, 1.5, [1, "a"], {"a": 1}, [None]])),
        min_size=2,
        max_size=2,
    ),
)
def test_a_damaged_block_expands_or_is_refused_in_one_line(composer, keys, values):
    refused_in_one_line(lambda: expand([dict(zip(keys, values, strict=False))], []))


def refused_in_one_line(compute) -> None:
    try:
        compute()
    except UserError as error:
        assert_one_line(str(error))


def assert_one_line(said: str) -> None:
    assert said.strip()
    assert "\n" not in said, said
