"""From override strings to settings and back, through Hydra, as seldom as possible."""

import copy
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ..errors import UserError
from . import bind, schema
from .encoders import DEFAULT
from .llm_schema import Generate, Prompt
from .overrides import (
    choices_of,
    explain_hydra_error,
    has_sweep_or_add,
    is_group,
    literal,
    parse,
    refuse,
    searchpath,
)
from .schema import CONF, Report, Run


@contextmanager
def offline(folder: Path = CONF) -> Iterator[None]:
    """Hydra without an application: the folder of a primary configuration first, then conf/."""
    with initialize_config_dir(str(folder.resolve()), version_base="1.3", job_name="synthweight"):
        yield


class Composer:
    """Composes jobs of one primary configuration: Hydra once a choice of groups, plain values set in a copy.

    Args:
        config_name: the primary configuration, in the folder that Hydra was initialised with.
    """

    def __init__(self, config_name: str) -> None:
        self.config_name = config_name
        self.bases: dict[tuple[str, ...], DictConfig] = {}
        self.defaults: dict[tuple[str, ...], dict[str, Any]] = {}  # the same as plain values
        self.extra = searchpath(bind.folders()[0])

    def settings(self, overrides: Sequence[str]) -> bind.Settings:
        """The settings of one job. Raises UserError for whatever Hydra, a type or a range refuses."""
        refuse(overrides)
        return bind.bind(bind.fill_encoder(self.config(overrides)))

    def run(self, overrides: Sequence[str]) -> Run:
        """The settings of one training. Raises UserError."""
        refuse(overrides)
        return bind.bind_run(bind.fill_encoder(self.config(overrides)))

    def prompt(self, overrides: Sequence[str]) -> Prompt:
        """The settings of one few-shot classification. Raises UserError."""
        found = self.settings(overrides)
        assert isinstance(found, Prompt)
        return found

    def generate(self, overrides: Sequence[str]) -> Generate:
        """The settings of one generation. Raises UserError."""
        found = self.settings(overrides)
        assert isinstance(found, Generate)
        return found

    def report(self, overrides: Sequence[str] = ()) -> Report:
        """How the rows of a sweep's file are shown, with overrides of the node `report`. Raises UserError."""
        config = copy.deepcopy(self.base(()))
        for override in parse(overrides):
            if override.is_sweep_override():
                raise UserError(
                    f"{override.input_line}: several values are a list: {override.key_or_group}=[a,b]"
                )
            set_value(config, override, new=True)
        return bind.report(config)

    def config(self, overrides: Sequence[str]) -> DictConfig:
        """What Hydra would compose for these overrides. Raises UserError."""
        parsed = parse(overrides)
        if has_sweep_or_add(parsed):
            return self.hydra([str(o.input_line) for o in parsed])
        return self.set_in_base(choices_of(parsed), [o for o in parsed if not is_group(o)])

    def set_in_base(self, choices: tuple[str, ...], values: Sequence[Override]) -> DictConfig:
        """A choice of groups, composed once, with values set in a copy.

        Args:
            choices: of groups, as overrides.
            values: plain values to set.
        """
        config = copy.deepcopy(self.base(choices))
        for override in values:
            set_value(config, override)
        return config

    def base(self, choices: tuple[str, ...]) -> DictConfig:
        """What Hydra composes for a choice of groups alone.

        Raises UserError where it changes what the sweep's jobs are.
        """
        if choices not in self.bases:
            for choice in choices:
                refuse_sweeper(choice)
            self.bases[choices] = self.hydra(list(choices))
        return self.bases[choices]

    def hydra(self, overrides: Sequence[str], with_hydra: bool = False) -> DictConfig:
        """One composition by Hydra itself. Raises UserError.

        Args:
            overrides: as on the command line.
            with_hydra: whether the node `hydra` is kept.
        """
        try:
            return compose(
                self.config_name, overrides=[*self.extra, *overrides], return_hydra_config=with_hydra
            )
        except (
            HydraException,
            OmegaConfBaseException,
            ValueError,
            OSError,
        ) as error:  # loss=null, a name too long
            raise UserError(explain_hydra_error(error)) from error
        except RecursionError as error:
            raise UserError(f"{self.config_name}: its defaults list names the file itself") from error

    def overrides(self, run: Run) -> list[str]:
        """The command line of a run: its groups' choices, and every value that differs from theirs.

        Raises UserError.
        """
        values = schema.as_dict(run)
        # of a name that is the user's own
        fallback = {"dataset": "local", "model": DEFAULT, "optim": DEFAULT}
        names = {g: values[g]["name"] for g in schema.CHOICES if g != "selection"} | {
            "selection": run.selection.split
        }
        known = {g: name if name in bind.choices(g) else fallback.get(g, name) for g, name in names.items()}
        chosen = [f"{group}={name}" for group, name in known.items()]
        choices = tuple(sorted(chosen))
        if choices not in self.defaults:
            self.defaults[choices] = OmegaConf.to_container(self.base(choices), resolve=False)  # type: ignore[assignment]
        found = chosen + [f"{key}={literal(value)}" for key, value in changes(self.defaults[choices], values)]
        if self.run(found) != run:
            raise UserError(
                f"{run.loss.name} {run.source.name}: no command line gives this run: {' '.join(found)}"
            )
        return found


def refuse_sweeper(choice: str) -> None:
    """Refuses a swept group whose file sets the sweeper.

    Hydra has read the sweeper's parameters before it composes a job.

    Raises:
        UserError: its parameters would count for nothing, and fewer jobs run in silence.
    """
    group, _, name = choice.partition("=")
    for folder in bind.folders():
        file = folder / group.removeprefix("+") / f"{name}.yaml"
        if os.path.isfile(file) and OmegaConf.select(OmegaConf.load(file), "hydra.sweeper") is not None:
            raise UserError(
                f"{choice}: {file} sets hydra.sweeper, which counts in the sweep's own file alone (fewer jobs would run, in "
                "silence): move its parameters there"
            )


def changes(
    base: Mapping[str, Any], wanted: Mapping[str, Any], prefix: str = ""
) -> Iterator[tuple[str, Any]]:
    """The dotted keys whose value differs, with the wanted one; a whole group where one side lacks it.

    Args:
        base: one configuration.
        wanted: another one.
        prefix: of the keys.
    """
    for key, value in wanted.items():
        old = base.get(key)
        if isinstance(value, dict) and isinstance(old, dict):
            yield from changes(old, value, f"{prefix}{key}.")
        elif value != old:
            yield f"{prefix}{key}", value


def set_value(config: DictConfig, override: Override, new: bool = False) -> None:
    """Sets one plain value as Hydra would. Raises UserError.

    Args:
        config: changed in place.
        override: of a plain value.
        new: whether the key may be one that the configuration has not.
    """
    try:
        OmegaConf.update(config, override.key_or_group, override.value(), merge=True, force_add=new)
    except (OmegaConfBaseException, ValueError) as error:
        raise UserError(explain_hydra_error(error, override)) from error
    except (AssertionError, AttributeError) as error:  # OmegaConf's word for a null on the way
        raise UserError(f"{override.key_or_group}: what it belongs to is null here") from error
