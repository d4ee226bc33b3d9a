"""The jobs of a sweep: found by name, expanded from blocks and the command line."""

import json
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import fields
from itertools import product
from pathlib import Path
from typing import Any

from omegaconf import ListConfig, OmegaConf

from ..config.compose import PROMPT, Composer
from ..config.llm_schema import Prompt
from ..config.overrides import parse
from ..config.schema import SWEEPS, Run
from ..errors import UserError

COMMANDS: dict[str, type] = {"train": Run, "prompt": Prompt}  # what a block may be of
ASIDE = "SYNTHWEIGHT_ASIDE"  # overrides that only `prompt` knows: Hydra would refuse them before our sweeper saw them
Block = dict[str, Any]


def find(name: str) -> Path:
    """A sweep's file, by its name in sweeps/ or by its path. Raises UserError."""
    for path in (Path(name), SWEEPS / f"{name}.yaml"):
        if path.is_file():
            listed = OmegaConf.select(OmegaConf.load(path), "hydra.sweeper.blocks", default=[])
            if not OmegaConf.is_list(listed) and listed != []:
                raise UserError(f"{path}: hydra.sweeper.blocks must be a list of parameter maps: - {{loss: ce}}")
            return path.resolve()
    there = ", ".join(sorted(path.stem for path in SWEEPS.glob("*.yaml")))
    raise UserError(f"{name}: no such sweep; there are {there}, or give the path of a YAML file")


def expand(blocks: Sequence[Block], arguments: Sequence[str]) -> list[list[str]]:
    """The jobs of a list of blocks as override lists, equal ones united, in order.

    An override on the command line replaces its key in every block that has it and is added to the others; where the
    blocks are of several commands, it goes to those whose command knows its key. The jobs of a block with
    `command: prompt` begin with `command=prompt`.

    Raises:
        UserError: an override that Hydra's grammar does not know, a block with a value that it repeats or of a command
            that there is not.
    """
    given = {o.key_or_group: o for o in parse(list(arguments))}
    commands = [command_of(block) for block in blocks or [{}]]
    jobs: dict[tuple[str, ...], list[str]] = {}
    for command, block in zip(commands, blocks or [{}], strict=True):
        axes = {"command": [PROMPT]} if command == "prompt" else {}
        axes |= {key: values(f"{key}={value_text(value)}") for key, value in block.items() if key != "command"}
        for key, override in given.items():
            if command in takers(key, commands):
                axes[key] = values(str(override.input_line))
        for combination in product(*axes.values()):
            jobs.setdefault(tuple(sorted(combination)), list(combination))
    return list(jobs.values())


def command_of(block: Block) -> str:
    command = str(block.get("command", "train"))
    if command not in COMMANDS:
        raise UserError(f"command={command}: a block's command is {' or '.join(COMMANDS)}")
    return command


def set_aside(arguments: Sequence[str]) -> list[str]:
    """The overrides of a sweep that Hydra itself may see; those that only `prompt` knows wait in the environment."""
    strange = [str(o.input_line) for o in parse(list(arguments)) if takers(o.key_or_group, list(COMMANDS)) == {"prompt"}]
    os.environ[ASIDE] = json.dumps(strange)
    return [line for line in arguments if line not in strange]


def aside() -> list[str]:
    """What `set_aside` kept back, once."""
    return list(json.loads(os.environ.pop(ASIDE, "[]")))


def takers(key: str, commands: Sequence[str]) -> set[str]:
    """The commands that an override is for: those that know its key; where none does, all (they will say so)."""
    top = key.split(".")[0].split("/")[0]
    knowing = {command for command in commands if top in {f.name for f in fields(COMMANDS[command])}}
    return knowing or set(commands)


def value_text(value: Any) -> str:
    """A block's value as Hydra's grammar has it: `a,b` and `range(0,4)` are strings already."""
    if isinstance(value, (list, ListConfig)):
        return ",".join(value_text(v) for v in value)
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def values(line: str) -> list[str]:
    """One override per value of a swept one. Raises UserError for a value given twice."""
    override = parse([line])[0]
    if not override.is_sweep_override():
        return [line]
    key = override.get_key_element()
    texts = list(override.sweep_string_iterator())
    twice = [text for text, n in Counter(texts).items() if n > 1]
    if twice:
        raise UserError(f"{line}: value {twice[0]} is given twice")
    return [f"{key}={text}" for text in texts]


def blocks_of(composer: Composer) -> list[Block]:
    """The blocks of a sweep's file."""
    config = composer.hydra([], with_hydra=True)
    found = OmegaConf.to_container(config.hydra.sweeper.blocks)
    if not isinstance(found, list) or not found:
        raise UserError(f"{composer.config_name}: hydra.sweeper.blocks is empty: a sweep is a list of parameter maps")
    return found
