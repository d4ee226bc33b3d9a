"""From override strings to runs and back, through Hydra, as seldom as possible."""

import copy
import dataclasses
import difflib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException, MissingConfigException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from . import configs, schema
from .configs import CONF, Run
from .errors import UserError
from .llm.settings import NODES, ROOTS, Generate, Prompt

PARSER = OverridesParser.create()
PROMPT = "command=prompt"  # how a job says that it is none of training


def parse(overrides: list[str]) -> list[Override]:
    """Hydra's own grammar. Raises UserError."""
    try:
        return PARSER.parse_overrides(overrides)
    except HydraException as error:
        hint = "values with , = ( ) [ ] { } or spaces need quotes within: key='a, b'"
        raise UserError(f"not an override of the form key=value: {schema.one_line(error)} ({hint})") from error


@contextmanager
def offline(folder: Path) -> Iterator[None]:
    """Hydra without an application: conf/ and the folder of a sweep file. For `plan` and `tables`."""
    schema.register()
    with initialize_config_dir(str(folder.resolve()), version_base="1.3", job_name="synthweight"):
        Composer.extra = [f"hydra.searchpath=[{literal(f'file://{CONF}')}]"]
        try:
            yield
        finally:
            Composer.extra = []


class Composer:
    """Composes jobs of one primary configuration: Hydra once a choice of groups, plain values set in a copy."""

    extra: list[str] = []  # noqa: RUF012 — set by `offline` alone

    def __init__(self, config_name: str) -> None:
        self.config_name = config_name
        self.bases: dict[tuple[str, ...], DictConfig] = {}
        self.prompts: Composer | None = None

    def run(self, overrides: list[str]) -> Run:
        """The settings of one job. Raises UserError for whatever Hydra, OmegaConf or a range refuses."""
        refuse(overrides)
        return schema.bind(self.config(overrides))

    def job(self, overrides: list[str]) -> Run | Prompt:
        """The settings of a sweep's job, which may say `command=prompt` first; its paths are those of the sweep then."""
        if overrides[:1] != [PROMPT]:
            return self.run(overrides)
        paths = self.config([o for o in overrides[1:] if o.startswith("paths.")]).paths
        here = [f"paths.{key}={literal(value)}" for key, value in paths.items()]
        if self.prompts is None:
            self.prompts = Composer(schema.FEW_SHOT)
        return self.prompts.prompt([*here, *overrides[1:]])

    def prompt(self, overrides: list[str]) -> Prompt:
        """The settings of one few-shot classification. Raises UserError."""
        return schema.typed(self.config(overrides), Prompt)

    def generate(self, overrides: list[str]) -> Generate:
        """The settings of one generation. Raises UserError."""
        return schema.typed(self.config(overrides), Generate)

    def config(self, overrides: list[str]) -> DictConfig:
        """What Hydra would compose for these overrides."""
        parsed = parse(overrides)
        if any(o.is_delete() or o.is_add() or o.is_force_add() or o.is_sweep_override() for o in parsed):
            return self.hydra(overrides)
        last = {o.key_or_group: str(o.input_line) for o in parsed if is_group(o)}  # as in Hydra, the last one counts
        choices = tuple(sorted(last.values()))
        if choices not in self.bases:
            self.bases[choices] = self.hydra(list(choices))
        config = copy.deepcopy(self.bases[choices])
        for override in parsed:
            if not is_group(override):
                set_value(config, override)
        return config

    def hydra(self, overrides: list[str], with_hydra: bool = False) -> DictConfig:
        """One composition by Hydra itself."""
        try:
            return compose(self.config_name, overrides=[*self.extra, *overrides], return_hydra_config=with_hydra)
        except (HydraException, OmegaConfBaseException) as error:
            raise UserError(explain(error)) from error

    def overrides(self, run: Run) -> list[str]:
        """The command line of a run: its groups' choices, and every value that differs from theirs."""
        values = configs.as_dict(run)
        fallback = {"dataset": "local", "model": "minilm", "optim": "minilm"}  # of a name that is the user's own
        names = {g: values[g]["name"] for g in configs.CHOICES if g != "selection"} | {"selection": run.selection.split}
        known = {g: name if name in schema.choices(g) else fallback.get(g, name) for g, name in names.items()}
        chosen = [f"{group}={name}" for group, name in known.items()]
        base = OmegaConf.to_container(self.config(chosen), resolve=False)
        assert isinstance(base, dict)
        found = chosen + [f"{key}={literal(value)}" for key, value in changes(cast(dict[str, Any], base), values)]
        if self.run(found) != run:
            raise UserError(f"{run.loss.name} {run.source.name}: no command line gives this run: {' '.join(found)}")
        return found


def changes(base: dict[str, Any], wanted: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The dotted keys whose value differs, each with the wanted one; a whole group where one side has none of it."""
    for key, value in wanted.items():
        old = base.get(key)
        if isinstance(value, dict) and isinstance(old, dict):
            yield from changes(old, value, f"{prefix}{key}.")
        elif value != old:
            yield f"{prefix}{key}", value


def is_group(override: Override) -> bool:
    """Whether an override chooses a file of a group (`loss=dimp`) rather than a value (`loss.gamma=2`)."""
    return "." not in override.key_or_group and (CONF / override.key_or_group).is_dir()


def set_value(config: DictConfig, override: Override) -> None:
    """Sets one plain value as Hydra would. Raises UserError."""
    try:
        OmegaConf.update(config, override.key_or_group, override.value(), merge=True)
    except OmegaConfBaseException as error:
        raise UserError(explain(error, override)) from error
    except (AssertionError, AttributeError) as error:  # OmegaConf's word for a null on the way
        raise UserError(f"{override.key_or_group}: what it belongs to is null here") from error


def flat(node: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of nested dictionaries by dotted key."""
    for key, value in node.items():
        dotted = f"{prefix}{key}"
        if isinstance(value, dict):
            yield from flat(value, f"{dotted}.")
        else:
            yield dotted, value


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
    line = schema.one_line(cause if isinstance(cause, OmegaConfBaseException) else error)
    key = override.key_or_group if override else getattr(cause, "full_key", None) or named_key(error)
    if key and key != "None":
        return f"{key}: {line}{did_you_mean(key)}"
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
    nodes = {**configs.GROUPS, "generator": NODES["generator"], "generator.prompt": NODES["template"]}
    for group, node in nodes.items():
        known |= {f"{group}.{field.name}" for field in dataclasses.fields(node)}
    for strategy in schema.LOSSES.values():
        known |= {f"loss.{name}" for name in strategy.__dataclass_fields__}
    return next(iter(difflib.get_close_matches(key, sorted(known), n=1, cutoff=0.7)), None)
