"""What the documents promise is there: keys, commands, rooms."""

import re
import shlex

import pytest
from omegaconf import OmegaConf

from synthweight.config import compose
from synthweight.config.schema import CONF, ROOT, SWEEPS
from synthweight.reporting import publish
from synthweight.sweeps import grid

PAPER = "".join(
    (ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8") for name in ("paper", "deviations")
)


def section(title: str) -> list[list[str]]:
    """The cells of the first table under a heading, its head left out."""
    text = PAPER.split(f"## {title}")[1].split("\n## ")[0]
    return [[c.strip() for c in x.strip("|").split(" | ")] for x in text.splitlines() if x.startswith("|")][
        2:
    ]


DEVIATIONS = section("Deviations, each with its key")
KEYS = [(line[0], key) for line in DEVIATIONS for key in re.findall(r"`([^`]+)`", line[-1])]
EXPERIMENTS = section("Every experiment, with the command that makes ours")
COMMANDS = [c for line in EXPERIMENTS for cell in line for c in re.findall(r"`(synthweight [^`]+)`", cell)]


@pytest.fixture(scope="module")
def composed():
    with compose.offline(CONF):
        return [
            *(compose.Composer("config").config([f"loss={loss}"]) for loss in ("focal", "hu", "sungen")),
            compose.Composer("prompt").config([]),
        ]


def test_the_table_of_deviations_is_read():
    assert len(DEVIATIONS) >= 15
    assert all(len(line) == 5 and re.search("`.+`", line[-1]) for line in DEVIATIONS), (
        "each deviation has a key"
    )


@pytest.mark.parametrize(("what", "key"), KEYS, ids=[key for _, key in KEYS])
def test_a_deviations_key_is_in_the_composed_config(composed, what, key):
    missing = object()
    found = [OmegaConf.select(config, key, default=missing, throw_on_missing=False) for config in composed]
    assert any(value is not missing for value in found), f"{what}: {key}"


@pytest.mark.parametrize("command", COMMANDS)
def test_an_experiments_command_is_one(command):
    _, verb, *words = shlex.split(command)
    if verb == "prompt":
        with compose.offline(CONF):
            assert compose.Composer("prompt").prompt(words).shots == 8
        return
    path = grid.find_sweep(words[0])
    with compose.offline(SWEEPS):
        composer = compose.Composer(path.stem)
        jobs = grid.expand(grid.blocks_of(composer), words[1:])
        composer.settings(jobs[0])
        report = composer.report()
    if verb == "figures":
        assert report.figures


def test_every_experiments_sweep_is_in_the_table():
    named = {shlex.split(command)[2] for command in COMMANDS if command.startswith("synthweight sweep")}
    assert {
        "table1",
        "noisy",
        "weights",
        "table2",
        "dynamics",
        "checker_size",
        "quantity",
        "ablation",
        "timing",
    } <= named


def test_what_is_published_names_sweeps_that_there_are():
    listed = publish.Published.read(ROOT / "outputs")
    for command in [*listed.tables.values(), *listed.figures.values()]:
        grid.find_sweep(publish.split_command(command)[0])
