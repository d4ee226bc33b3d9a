"""Hydra's override grammar: read, written, refused; and its errors in one line each."""

import dataclasses
import difflib
from functools import cache, lru_cache
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException, MissingConfigException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ..errors import UserError
from . import bind, schema
from .llm_schema import NODES, ROOTS
from .schema import CONF, Run

PARSER = OverridesParser.create()


def parse(overrides: list[str]) -> list[Override]:
    """Hydra's own grammar. Raises UserError."""
    return [parse_one(line) for line in overrides]


@cache  # a sweep repeats few lines in many jobs
def parse_one(line: str) -> Override:
    try:
        return PARSER.parse_overrides([line])[0]
    except HydraException as error:
        hint = "values with , = ( ) [ ] { } or spaces need quotes within: key='a, b'"
        raise UserError(f"not an override of the form key=value: {bind.one_line(error)} ({hint})") from error


def is_group(override: Override) -> bool:
    """Whether an override chooses a file of a group (`loss=dimp`) rather than a value (`loss.gamma=2`)."""
    return "." not in override.key_or_group and is_folder(override.key_or_group)


@cache
def is_folder(group: str) -> bool:
    return (CONF / group).is_dir()


def choices_of(parsed: list[Override]) -> tuple[str, ...]:
    """The choices of groups among overrides; as in Hydra, the last one counts."""
    return tuple(sorted({o.key_or_group: str(o.input_line) for o in parsed if is_group(o)}.values()))


def special(parsed: list[Override]) -> bool:
    """Whether an override does more than choose or set."""
    return any(o.is_delete() or o.is_add() or o.is_force_add() or o.is_sweep_override() for o in parsed)


def literal(value: Any) -> str:
    """A value in Hydra's override grammar."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"[{','.join(literal(v) for v in value)}]"
    if isinstance(value, dict):
        return f"{{{','.join(f'{key}:{literal(v)}' for key, v in value.items())}}}"
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace("'", "\\'") if "'" in value else value
        return f"'{escaped}'"
    return repr(value)


def refuse(overrides: list[str]) -> None:
    """What Hydra would let pass in silence: a new key, or a loss beside an ablation that overrides the loss.

    Raises:
        UserError: naming the key, or both choices.
    """
    parsed = parse(overrides)
    for override in parsed:
        new = override.is_add() or override.is_force_add() or override.is_delete()
        if new and not override.key_or_group.startswith("hydra"):
            key = override.key_or_group
            raise UserError(f"{override.input_line}: settings are neither added nor deleted: write {key}=…{did_you_mean(key)}")
    chosen = {o.key_or_group: o.value() for o in parsed if is_group(o)}
    ablation = chosen.get("ablation")
    if not ablation or not isinstance(ablation, str) or not (CONF / "ablation" / f"{ablation}.yaml").is_file():
        return
    for group, choice in overridden(ablation).items():
        if group in chosen:
            raise UserError(
                f"ablation={ablation} sets {group}={choice} and the command line {group}={chosen[group]}: give one of them"
            )


@lru_cache(maxsize=64)
def overridden(ablation: str) -> dict[str, str]:
    """The groups whose choice an ablation overrides."""
    config = OmegaConf.load(CONF / "ablation" / f"{ablation}.yaml")
    defaults = config.get("defaults", []) if isinstance(config, DictConfig) else []
    pairs = [(str(k), str(v)) for entry in defaults if isinstance(entry, DictConfig) for k, v in entry.items()]
    return {k.removeprefix("override ").lstrip("/"): v for k, v in pairs if k.startswith("override ")}


def explain(error: Exception, override: Override | None = None) -> str:
    """One line: what was given, what there is."""
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        missing = str(error.missing_cfg_file)
        group, _, name = missing.rpartition("/")
        if group and error.options is not None:
            return f"{group}={name}: unknown; there are {', '.join(sorted(error.options))}"
        return f"{missing}: no such configuration file"
    cause = error.__cause__ or error
    line = bind.one_line(cause if isinstance(cause, OmegaConfBaseException) else error)
    key = override.key_or_group if override else getattr(cause, "full_key", None) or named_key(error)
    if key and key != "None":
        return f"{key}: {line.removeprefix(f'{key}: ')}{did_you_mean(key)}"
    return line


def did_you_mean(key: str) -> str:
    """A hint for a message, or nothing."""
    guess = closest(key)
    return f"; did you mean {guess}?" if guess and guess != key else ""


def named_key(error: Exception) -> str | None:
    """The key that Hydra's message quotes: Could not override 'los'."""
    text = str(error)
    return text.split("'")[1] if text.startswith("Could not override '") else None


def closest(key: str) -> str | None:
    """The known key that is spelt most like this one."""
    known = {field.name for root in (Run, *ROOTS.values()) for field in dataclasses.fields(root)} | {"ablation"}
    nodes = {**schema.GROUPS, "generator": NODES["generator"], "generator.prompt": NODES["template"]}
    for group, node in nodes.items():
        known |= {f"{group}.{field.name}" for field in dataclasses.fields(node)}
    for strategy in bind.LOSSES.values():
        known |= {f"loss.{name}" for name in strategy.__dataclass_fields__}
    return next(iter(difflib.get_close_matches(key, sorted(known), n=1, cutoff=0.7)), None)
