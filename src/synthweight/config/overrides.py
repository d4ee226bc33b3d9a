"""Hydra's override grammar: read, written, refused; and its errors in one line each."""

import os
import shlex
import types
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, get_args, get_origin

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, Quote, QuotedString
from hydra.errors import HydraException, MissingConfigException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ..errors import UserError
from . import bind
from .schema import CONF

PARSER = OverridesParser.create()


def parse(overrides: Sequence[str]) -> list[Override]:
    """Hydra's own grammar. Raises UserError."""
    return [parse_one(line) for line in overrides]


@cache  # a sweep repeats few lines in many jobs
def parse_one(line: str) -> Override:
    """One override; a setting that is text gets the characters that were typed. Raises UserError."""
    key, equals, value = line.partition("=")
    try:
        if equals and not key:
            raise UserError(f"{line}: not an override of the form key=value")
        return PARSER.parse_overrides([as_typed(line)])[0]
    except HydraException as error:
        if not equals:
            raise UserError(f"{line}: not an override of the form key=value") from error
        hint = f"quoted, for a shell: {quoted(key, value)}"
        raise UserError(f"{line}: not readable as an override ({bind.one_line(error)}); {hint}") from error


def as_typed(line: str) -> str:
    """An override of a setting that is text, quoted where Hydra's grammar would make something else of it.

    The grammar reads 2024_11_28 as a number and stops at brackets, spaces or commas in a path. Values that it
    reads as text, quoted ones, null and swept ones stay as they are.
    """
    key, equals, value = line.partition("=")
    kind = text_kind(key) if equals else None
    if kind is str:
        return f"{key}={','.join(map(text, choices_in(key, value)))}"
    inner = value.strip()[1:-1]
    if kind is list and value.strip().startswith("[") and not set(inner) & set("[]{}()'\"\\"):
        return f"{key}=[{','.join(text(part.strip()) for part in inner.split(','))}]" if inner else line
    return line


def text_kind(key: str) -> type | None:
    """str for a setting that is text, list for one that is a list of texts, None for any other."""
    kinds = bind.keys()
    hint = kinds.get(key) or kinds.get(key.rpartition(".")[0])
    parts = (
        [part for part in get_args(hint) if part is not type(None)]
        if get_origin(hint) is types.UnionType
        else [hint]
    )
    kind = parts[0]
    if get_origin(kind) is dict and key not in kinds:  # an entry of a map
        kind = get_args(kind)[1]
        return str if kind is str or str in get_args(kind) else None
    if get_origin(kind) is list:
        return list if get_args(kind) == (str,) else None
    return str if kind is str else None


def choices_in(key: str, value: str) -> list[str]:
    """The values of a sweep over plain words, or the value itself.

    Args:
        key: of the override.
        value: as typed.
    """
    if set(value) & set("'\"()[]{}\\"):
        return [value]
    try:
        swept = PARSER.parse_overrides([f"{key}={value}"])[0].is_sweep_override()
    except HydraException:
        return [value]
    return value.split(",") if swept else [value]


def text(value: str) -> str:
    """A value in Hydra's grammar that is read as this very text; null, quoted and swept values as they are."""
    try:
        parsed = PARSER.parse_overrides([f"key={value}"])[0]
    except HydraException:
        return literal(value)
    if parsed.is_sweep_override():
        return value
    read = parsed.value()
    unchanged = read is None or (
        isinstance(read, str) and (read == value or value[:1] in "'\"" or "\\" in value)
    )
    return value if unchanged else literal(value)


def is_group(override: Override) -> bool:
    """Whether an override chooses a file of a group (`loss=dimp`) rather than a value (`loss.gamma=2`)."""
    return "." not in override.key_or_group and is_folder(override.key_or_group)


@cache
def is_folder(group: str) -> bool:
    """Whether a name is that of a group of conf/.

    Args:
        group: the name.
    """
    return os.path.isdir(CONF / group)  # False for what no file system has, where `Path.is_dir` raises


def choices_of(parsed: list[Override]) -> tuple[str, ...]:
    """The choices of groups among overrides; as in Hydra, the last one counts."""
    return tuple(sorted({o.key_or_group: str(o.input_line) for o in parsed if is_group(o)}.values()))


def has_sweep_or_add(parsed: list[Override]) -> bool:
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
        return QuotedString(value, Quote.single).with_quotes()
    return repr(value)


def searchpath(folder: Path) -> list[str]:
    """The override that lets Hydra search conf/ after another primary folder; none for conf/ itself."""
    return [] if folder == CONF else [f"hydra.searchpath=[{literal(f'file://{CONF}')}]"]


def refuse(overrides: Sequence[str]) -> None:
    """What Hydra would let pass in silence: a loss beside an ablation that overrides the loss.

    Raises:
        UserError: naming both choices.
    """
    chosen = {o.key_or_group: o.value() for o in parse(overrides) if is_group(o)}
    for group, value in chosen.items():
        if value is None and group != "ablation":
            raise UserError(f"{group}=null: one is needed; there are {', '.join(bind.choices(group))}")
        if isinstance(value, list):
            raise UserError(
                f"{group} takes one choice: -m sweeps several values ({group}={','.join(map(str, value))})"
            )
    ablation = chosen.get("ablation")
    if (
        not ablation
        or not isinstance(ablation, str)
        or not os.path.isfile(CONF / "ablation" / f"{ablation}.yaml")
    ):
        return
    for group, choice in overridden(ablation).items():
        if group in chosen:
            raise UserError(
                f"ablation={ablation} sets {group}={choice} and the command line {group}={chosen[group]}: give one of them"
            )


@cache
def overridden(ablation: str) -> dict[str, str]:
    """The groups whose choice an ablation overrides."""
    return group_overrides(OmegaConf.load(CONF / "ablation" / f"{ablation}.yaml"))


def group_overrides(config: Any) -> dict[str, str]:
    """The groups that a file's defaults list overrides, each with its choice."""
    pairs = [
        (str(k), str(v))
        for entry in config.get("defaults", [])
        if isinstance(entry, DictConfig)
        for k, v in entry.items()
    ]
    return {k.removeprefix("override ").lstrip("/"): v for k, v in pairs if k.startswith("override ")}


def experiment_overrides(arguments: Sequence[str]) -> list[str]:
    """The arguments with `+experiment=NAME` replaced by the overrides that its file holds.

    In a sweep they take the place of what the blocks say, as overrides of the command line do.

    Raises:
        UserError: There is no such experiment.
    """
    out: list[str] = []
    for line in arguments:
        override = parse_one(line)
        if override.key_or_group != "experiment" or override.is_sweep_override():
            out.append(line)
            continue
        name = str(override.value())
        path = next(
            (p for folder in bind.folders() if os.path.isfile(p := folder / "experiment" / f"{name}.yaml")),
            None,
        )
        if path is None:
            raise UserError(f"+experiment={name}: unknown; there are {', '.join(bind.choices('experiment'))}")
        config = OmegaConf.load(path)
        assert isinstance(config, DictConfig)
        out += [f"{group}={choice}" for group, choice in group_overrides(config).items()]
        config.pop("defaults", None)
        out += [f"{key}={literal(value)}" for key, value in flat(OmegaConf.to_container(config))]  # type: ignore[arg-type]
    return out


def flat(node: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of nested dictionaries by dotted key.

    Args:
        node: nested dictionaries.
        prefix: of the keys.
    """
    for key, value in node.items():
        dotted = f"{prefix}{key}"
        if isinstance(value, dict):
            yield from flat(value, f"{dotted}.")
        else:
            yield dotted, value


def explain_hydra_error(error: Exception, override: Override | None = None) -> str:
    """An error of Hydra's in one line: what was given, and what there is.

    Args:
        error: of Hydra or OmegaConf.
        override: that raised it, where it is known.
    """
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        missing = str(error.missing_cfg_file)
        group, _, name = missing.rpartition("/")
        if group and error.options is not None:
            return f"{group}={name}: unknown; there are {', '.join(sorted(error.options))}"
        return f"{missing}: no such configuration file"
    if "Ambiguous value for argument" in str(error):
        return several_values(str(error).split("argument '", 1)[1].split("'\n", 1)[0])
    cause = error.__cause__ or error
    line = bind.one_line(cause if isinstance(cause, OmegaConfBaseException) else error)
    key = override.key_or_group if override else getattr(cause, "full_key", None) or named_key(error)
    if key and key != "None":
        return f"{key}: {line.removeprefix(f'{key}: ')}{bind.did_you_mean(key)}"
    return line


def several_values(line: str) -> str:
    """What is wrong with an override of several values that is not swept."""
    key, _, value = line.partition("=")
    hint = "" if is_folder(key) else f"; one value with a comma is quoted, for a shell: {quoted(key, value)}"
    return f"{line}: -m sweeps several values{hint}"


def quoted(key: str, value: str) -> str:
    """An override whose value is text, as it is written in a shell.

    Args:
        key: of the setting.
        value: its text.
    """
    return shlex.quote(f"{key}={literal(value)}")


def named_key(error: Exception) -> str | None:
    """The key that Hydra's message quotes: Could not override 'los'."""
    text = str(error)
    return text.split("'")[1] if text.startswith("Could not override '") else None
