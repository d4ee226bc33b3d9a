"""What there is to choose from is listed with a word on each."""

import pytest

from support.cli import run_cli
from synthweight.config.schema import CONF
from synthweight.losses import LOSSES


@pytest.mark.parametrize(
    ("command", "group"), [("losses", "loss"), ("datasets", "dataset"), ("models", "model")]
)
def test_every_choice_is_listed_with_a_description(command, group, capsys):
    assert run_cli(command) == 0
    lines = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert set(lines) == {path.stem for path in (CONF / group).glob("*.yaml")}
    assert all(len(text) > 20 for text in lines.values())
    if command == "losses":
        assert set(lines) == set(LOSSES)


def test_an_argument_is_refused(capsys):
    assert run_cli("losses", "dimp") == 2
    assert "unrecognized arguments: dimp" in capsys.readouterr().err
