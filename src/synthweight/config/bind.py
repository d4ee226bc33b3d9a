"""The border between Hydra and the rooms below: schemas go in, typed settings come out."""

from typing import Any, TypeVar, cast

from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ..errors import UserError
from ..losses import LOSSES
from .llm_schema import NODES, ROOTS
from .schema import CONF, GROUPS, Run

Root = TypeVar("Root")
FEW_SHOT = "prompt_in_a_sweep"  # conf/prompt.yaml by another name, which Hydra finds wherever its main folder is


def register() -> None:
    """Puts every schema into Hydra's ConfigStore, under `schema/` so that none is a user's choice."""
    store = ConfigStore.instance()
    store.store(group="schema", name="run", node=Run)
    for name, node in {**GROUPS, **NODES, **ROOTS}.items():
        store.store(group="schema", name=name, node=node)
    # Hydra looks for a primary configuration in one folder alone, and for a sweep's few-shot lines that is the sweep file's
    store.store(name=FEW_SHOT, node=OmegaConf.load(CONF / "prompt.yaml"))
    for name, strategy in LOSSES.items():
        store.store(group="schema/loss", name=name, node=strategy)


def one_line(error: BaseException) -> str:
    """The message of Hydra's and OmegaConf's errors without their stack of context lines."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    noise = ("reference_type", "object_type")
    useful = [line for line in lines if not line.startswith(noise) and not line.endswith("raised while composing config:")]
    key = next((line.split(":", 1)[1].strip() for line in useful if line.startswith("full_key")), None)
    head = next((line for line in useful if not line.startswith("full_key")), type(error).__name__)
    return f"{key}: {head}" if key and key not in head else head


def bind(config: DictConfig) -> Run:
    """A composed configuration of a run: `typed` says what it raises."""
    return typed(config, Run)


def typed(config: DictConfig, root: type[Root]) -> Root:
    """The one border: a composed configuration as typed, range-checked settings.

    Raises:
        UserError: a value is missing, of the wrong type or out of its range; the key is named.
    """
    try:
        plain = OmegaConf.masked_copy(config, [str(key) for key in config if key in cast(Any, root).__dataclass_fields__])
        OmegaConf.resolve(plain)
        missing = sorted(OmegaConf.missing_keys(plain))
        if missing:
            raise UserError(f"{missing[0]} has no value: give {missing[0]}=…")
        bound = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(root), plain))
    except OmegaConfBaseException as error:
        raise UserError(one_line(error)) from error
    assert isinstance(bound, root)
    return bound


def named(group: str, name: str) -> Any:
    """A named choice of a group, as its file has it. Raises UserError where there is no such name."""
    if name not in choices(group):
        raise UserError(f"{group}={name}: unknown; there are {', '.join(choices(group))}")
    values = OmegaConf.load(CONF / group / f"{name}.yaml")
    assert isinstance(values, DictConfig)
    del values["defaults"]
    return OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(GROUPS[group]), values))


def choices(group: str) -> list[str]:
    """The names that a group offers."""
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))
