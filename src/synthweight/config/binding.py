"""Settings of many jobs that differ in plain values: bound once by OmegaConf, then set in the bound dataclasses.

Equal to binding each job's own composition, and a test holds it to that; whatever is not plain is left to the slow way.
"""

import copy
import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ..errors import UserError
from . import bind
from .schema import Run

Shape = tuple[tuple[str, ...], tuple[str, ...]]  # the groups' choices, and the keys that are set besides


class Binder:
    """Binds jobs; remembers one bound run of each shape, and which keys change nothing but themselves there."""

    def __init__(self, config: Callable[[tuple[str, ...], Sequence[Override]], DictConfig]) -> None:
        self.config = config  # what Hydra would compose
        self.bases: dict[Shape, tuple[Run, dict[str, Override]]] = {}
        self.plain: dict[tuple[Shape, str], bool] = {}
        self.nodes: dict[type, DictConfig] = {}  # a typed, empty node of each dataclass: OmegaConf's own conversion

    def run(self, choices: tuple[str, ...], values: Sequence[Override]) -> Run | None:
        """The settings of a job, or None where the quick way does not apply or the job is a bad one."""
        wanted = {o.key_or_group: o for o in values}  # as in Hydra, the last one counts
        shape = choices, tuple(sorted(wanted))
        if not all(simple(o) for o in values) or any(a.startswith(f"{b}.") for a in wanted for b in wanted):
            return None
        try:
            if shape not in self.bases:
                self.bases[shape] = bind.bind(self.config(choices, values)), wanted
            base, first = self.bases[shape]
            leaves = {k: self.converted(base, k, o.value()) for k, o in wanted.items() if o.value() != first[k].value()}
            if not all(self.alone(shape, wanted[key], value) for key, value in leaves.items()):
                return None
            return with_leaves(base, leaves) if leaves else copy.deepcopy(base)
        except (UserError, OmegaConfBaseException, AttributeError, TypeError):
            return None

    def converted(self, base: Run, key: str, value: Any) -> Any:
        """The value as OmegaConf types it at that place."""
        *parents, name = key.split(".")
        node: Any = base
        for parent in parents:
            node = getattr(node, parent)
        if type(node) not in self.nodes:
            self.nodes[type(node)] = OmegaConf.structured(type(node))
            OmegaConf.set_readonly(self.nodes[type(node)], False)  # strategies are frozen
        typed = self.nodes[type(node)]
        typed[name] = value
        return typed[name]

    def alone(self, shape: Shape, override: Override, value: Any) -> bool:
        """Whether setting a key changes that key alone: no other value is made from it. Tried once, by the slow way."""
        key = override.key_or_group
        if (shape, key) not in self.plain:
            base, first = self.bases[shape]
            bound = bind.bind(self.config(shape[0], list((first | {key: override}).values())))
            self.plain[shape, key] = with_leaves(base, {key: value}) == bound
        return self.plain[shape, key]


def simple(override: Override) -> bool:
    """Whether it sets one value that is no container and refers to no other."""
    value = override.value()
    return (value is None or isinstance(value, (str, int, float))) and "${" not in str(override.input_line)


def with_leaves(node: Any, leaves: dict[str, Any]) -> Any:
    """A dataclass with values at dotted keys; every range on the way is checked again. Raises UserError."""
    own = {key: value for key, value in leaves.items() if "." not in key}
    below: dict[str, dict[str, Any]] = {}
    for key, value in leaves.items():
        if "." in key:
            parent, rest = key.split(".", 1)
            below.setdefault(parent, {})[rest] = value
    return dataclasses.replace(node, **own, **{name: with_leaves(getattr(node, name), part) for name, part in below.items()})
