"""From plain values to typed settings: what the schema says is applied here, once, and nowhere else."""

import dataclasses
import difflib
import os
import types
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ..errors import UserError
from ..losses import LOSSES, WeightedLoss
from . import encoders
from .llm_schema import Generate, Prompt
from .schema import CONF, Model, Report, Run

Root = TypeVar("Root")
Settings = Run | Prompt | Generate  # what a primary configuration may be of
ROOTS: tuple[type, ...] = (Run, Prompt, Generate)
KINDS = {bool: "true or false", int: "an integer", float: "a number"}


def bind(config: DictConfig) -> Settings:
    """A composed configuration as typed, range-checked settings of the kind that its keys say.

    Raises:
        UserError: a value is missing, of the wrong type or out of its range, or a key is unknown; the key is
            named.
    """
    values = plain(config)
    values.pop("report", None)  # a sweep's: how its rows are shown changes no run
    bound: Settings = settings(values, root_of(values))
    if isinstance(bound, Run):
        refuse_hidden_hub(bound.model)
    return bound


def refuse_hidden_hub(model: Model) -> None:
    """Raises UserError where another hub name was given, and minilm's package would be trained in its place."""
    own = _choice("model", encoders.DEFAULT, tuple(folders()))
    if model.path is None and model.package == own.package is not None and model.hub not in (None, own.hub):
        raise UserError(
            f"model.hub={model.hub}: model={encoders.DEFAULT} is its package {own.package}, which is looked up first: write "
            "conf/model/NAME.yaml and conf/optim/NAME.yaml for another encoder, or give its folder as model.path=FOLDER"
        )


def bind_run(config: DictConfig) -> Run:
    """The same where only a training will do. Raises UserError."""
    bound = bind(config)
    if not isinstance(bound, Run):
        raise UserError("this is no configuration of a training: it has no loss")
    return bound


def report(config: DictConfig) -> Report:
    """The `report` node of a sweep's file: how its rows are shown. Raises UserError."""
    node = config.get("report")
    return settings(plain(node) if isinstance(node, DictConfig) else {}, Report, "report")


def root_of(values: Mapping[str, Any]) -> type:
    """The kind of settings that has most of the keys."""
    return max(ROOTS, key=lambda root: len(values.keys() & {f.name for f in dataclasses.fields(root)}))


def plain(config: DictConfig) -> dict[str, Any]:
    """Every value with its interpolations resolved. Raises UserError where one has no value."""
    try:
        values = OmegaConf.to_container(config, resolve=True)
    except OmegaConfBaseException as error:
        raise UserError(one_line(error)) from error
    assert isinstance(values, dict)
    missing = sorted(OmegaConf.missing_keys(config))
    if missing:
        raise UserError(f"{missing[0]} has no value: give {missing[0]}=…")
    return {str(key): value for key, value in values.items()}


def settings(values: Mapping[str, Any], kind: type[Root], key: str = "") -> Root:
    """A dataclass made of plain values, nested ones too.

    Args:
        values: by the name of the field.
        kind: the dataclass; for a loss, the one that its name says.
        key: where it belongs, for messages.

    Raises:
        UserError: an unknown key, a missing one, a value of another type, or out of its range.
    """
    if kind is WeightedLoss:
        name = values.get("name")
        if name not in LOSSES:
            raise UserError(f"{key}.name={name}: unknown; there are {', '.join(sorted(LOSSES))}")
        kind = LOSSES[name]  # type: ignore[assignment]
    hints, dot = field_types(kind), f"{key}." if key else ""  # type: ignore[arg-type]
    for name in values:
        if name not in hints:
            raise UserError(f"{dot}{name}: no such setting{did_you_mean(f'{dot}{name}')}")
    absent = [f.name for f in dataclasses.fields(kind) if f.name not in values and required(f)]  # type: ignore[arg-type]
    if absent:
        raise UserError(f"{dot}{absent[0]} has no value: give {dot}{absent[0]}=…")
    return kind(**{name: typed(value, hints[name], f"{dot}{name}") for name, value in values.items()})


@cache
def field_types(kind: Any) -> dict[str, Any]:
    """The type of each field."""
    hints = get_type_hints(kind)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind)}


def required(field: "dataclasses.Field[Any]") -> bool:
    """Whether a field has no default."""
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def typed(value: Any, kind: Any, key: str) -> Any:
    """One value, checked. Raises UserError naming its key.

    Args:
        value: plain, as OmegaConf gives it.
        kind: the type of its field.
        key: for messages.
    """
    if get_origin(kind) is types.UnionType:  # X | None
        if value is None:
            return None
        (kind,) = (part for part in get_args(kind) if part is not types.NoneType)
    if dataclasses.is_dataclass(kind):
        if not isinstance(value, Mapping):
            raise UserError(f"{key} holds settings of its own ({', '.join(field_types(kind))}), is {value!r}")  # type: ignore[arg-type]
        return settings(value, kind, key)  # type: ignore[arg-type]
    if get_origin(kind) is list:
        if not isinstance(value, list):
            raise UserError(f"{key} must be a list, is {value!r}: write {key}=[a,b]")
        return [typed(item, get_args(kind)[0], f"{key}[{i}]") for i, item in enumerate(value)]
    if get_origin(kind) is dict:
        if not isinstance(value, Mapping):
            raise UserError(f"{key} must be a map, is {value!r}: write {key}={{name:value}}")
        return {str(name): typed(item, get_args(kind)[1], f"{key}.{name}") for name, item in value.items()}
    if kind is str:
        if not isinstance(value, str):
            raise UserError(f"{key} must be text, is {value!r}: quote it where it is written")
        return value
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        hint = (
            f": -m sweeps several values ({key}={','.join(map(str, value))})"
            if isinstance(value, list)
            else ""
        )
        raise UserError(f"{key} must be {KINDS[kind]}, is {value!r}{hint}")
    return value


def load_choice(group: str, name: str) -> Any:
    """A named choice of a group, as its file has it, typed. Raises UserError where there is no such name.

    Args:
        group: of conf/.
        name: of a file of the group.
    """
    from .schema import GROUPS

    for folder in folders():
        path = folder / group / f"{name}.yaml"
        if os.path.isfile(path):
            values = OmegaConf.load(path)
            assert isinstance(values, DictConfig)
            return settings(plain(values), GROUPS[group], group)
    raise UserError(f"{group}={name}: unknown; there are {', '.join(choices(group))}")


def recipe(key: str, *, _root_: DictConfig) -> Any:
    """One setting of the recipe for the size of model.path's encoder, for conf/optim/default.yaml.

    Args:
        key: of the recipe.
        _root_: the whole configuration, given by OmegaConf.

    Raises:
        UserError: a user's own recipe of that name is bad.
    """
    path = OmegaConf.select(_root_, "model.path")
    return getattr(_choice("optim", encoders.recipe_name(path), tuple(folders())), key)


def fill_encoder(config: DictConfig) -> DictConfig:
    """A configuration with the values that depend on model.path in place: quicker than OmegaConf's resolvers.

    Args:
        config: of the caller's own; changed.
    """
    model, optim = config.get("model"), config.get("optim")
    if not isinstance(model, DictConfig) or not isinstance(optim, DictConfig):
        return config  # of an LLM, which has no encoder
    try:
        path = OmegaConf.select(config, "model.path")
        if plain_values(model).get("name") == "${encoder_name:${.path}}":
            model.name = encoders.encoder_name(path)
        for key, raw in plain_values(optim).items():
            if raw == f"${{recipe:{key}}}":
                optim[key] = recipe(key, _root_=config)
    except OmegaConfBaseException:  # of model.path, which `plain` names
        pass
    return config


def plain_values(config: DictConfig) -> dict[str, Any]:
    """The values of a group as they are written, interpolations unresolved."""
    return OmegaConf.to_container(config, resolve=False)  # type: ignore[return-value]


@cache
def _choice(group: str, name: str, _folders: tuple[Path, ...]) -> Any:
    """`load_choice`, once: the folders that Hydra looks through decide what a name is."""
    return load_choice(group, name)


# conf/model/default.yaml
OmegaConf.register_new_resolver("encoder_name", encoders.encoder_name, replace=True)
OmegaConf.register_new_resolver("recipe", recipe, replace=True)  # conf/optim/default.yaml


def choices(group: str) -> list[str]:
    """The names that a group offers."""
    return sorted({path.stem for folder in folders() for path in (folder / group).glob("*.yaml")})


def folders() -> list[Path]:
    """Where configuration files are looked for: Hydra's search path, or conf/ where Hydra is not at work."""
    if not GlobalHydra.instance().is_initialized():
        return [CONF]
    entries = GlobalHydra.instance().config_loader().get_search_path().get_path()
    found = [
        Path(entry.path.removeprefix("file://"))
        for entry in entries
        if "://" not in entry.path.removeprefix("file://")
    ]
    return list(dict.fromkeys([*found, CONF]))


def one_line(error: BaseException) -> str:
    """The message of Hydra's and OmegaConf's errors without their stack of context lines."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    noise = ("reference_type", "object_type")
    useful = [
        line
        for line in lines
        if not line.startswith(noise) and not line.endswith("raised while composing config:")
    ]
    key = next((line.split(":", 1)[1].strip() for line in useful if line.startswith("full_key")), None)
    head = next((line for line in useful if not line.startswith("full_key")), type(error).__name__)
    return f"{key}: {head}" if key and key not in head else head


def leaves(kind: type, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every dotted key below a dataclass with its type; a loss's are those of all losses.

    Args:
        kind: the dataclass.
        prefix: of its keys.
    """
    strategies = list(LOSSES.values()) if kind is WeightedLoss else [kind]
    for name, hint in {name: hint for each in strategies for name, hint in field_types(each).items()}.items():
        yield f"{prefix}{name}", hint
        inner = next((part for part in get_args(hint) if dataclasses.is_dataclass(part)), hint)
        if dataclasses.is_dataclass(inner):
            yield from leaves(inner, f"{prefix}{name}.")  # type: ignore[arg-type]


@cache
def keys() -> dict[str, Any]:
    """Every dotted key of all settings, with its type."""
    return {key: hint for root in ROOTS for key, hint in leaves(root)}


def did_you_mean(key: str) -> str:
    """A hint for a message: the known key that is spelt most like this one, or nothing."""
    guess = next(
        iter(difflib.get_close_matches(key, sorted({*keys(), "ablation", "experiment"}), n=1, cutoff=0.7)),
        None,
    )
    return f"; did you mean {guess}?" if guess and guess != key else ""
