"""From override strings to runs and back, through Hydra, as seldom as possible."""

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ..errors import UserError
from . import bind, schema
from .binding import Binder
from .llm_schema import Generate, Prompt
from .overrides import choices_of, explain, is_group, literal, parse, refuse, special
from .schema import CONF, Run

PROMPT = "command=prompt"  # how a job says that it is none of training


@contextmanager
def offline(folder: Path) -> Iterator[None]:
    """Hydra without an application: conf/ and the folder of a sweep file. For `plan` and `tables`."""
    bind.register()
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
        self.plain: dict[tuple[str, ...], dict[str, Any]] = {}  # the same as plain values
        self.prompts: Composer | None = None
        self.binder = Binder(self.set_in_base)

    def run(self, overrides: list[str]) -> Run:
        """The settings of one job. Raises UserError for whatever Hydra, OmegaConf or a range refuses."""
        refuse(overrides)
        parsed = parse(overrides)
        quick = None if special(parsed) else self.binder.run(choices_of(parsed), [o for o in parsed if not is_group(o)])
        return quick or bind.bind(self.config(overrides))

    def job(self, overrides: list[str]) -> Run | Prompt:
        """The settings of a sweep's job, which may say `command=prompt` first; its paths are those of the sweep then."""
        if overrides[:1] != [PROMPT]:
            return self.run(overrides)
        paths = self.config([o for o in overrides[1:] if o.startswith("paths.")]).paths
        here = [f"paths.{key}={literal(value)}" for key, value in paths.items()]
        if self.prompts is None:
            self.prompts = Composer(bind.FEW_SHOT)
        return self.prompts.prompt([*here, *overrides[1:]])

    def prompt(self, overrides: list[str]) -> Prompt:
        """The settings of one few-shot classification. Raises UserError."""
        return bind.typed(self.config(overrides), Prompt)

    def generate(self, overrides: list[str]) -> Generate:
        """The settings of one generation. Raises UserError."""
        return bind.typed(self.config(overrides), Generate)

    def config(self, overrides: list[str]) -> DictConfig:
        """What Hydra would compose for these overrides."""
        parsed = parse(overrides)
        if special(parsed):
            return self.hydra(overrides)
        return self.set_in_base(choices_of(parsed), [o for o in parsed if not is_group(o)])

    def set_in_base(self, choices: tuple[str, ...], values: Sequence[Override]) -> DictConfig:
        """A choice of groups, composed once, with values set in a copy."""
        config = copy.deepcopy(self.base(choices))
        for override in values:
            set_value(config, override)
        return config

    def base(self, choices: tuple[str, ...]) -> DictConfig:
        """What Hydra composes for a choice of groups alone. Raises UserError where it changes what the sweep's jobs are."""
        if choices not in self.bases:
            for choice in choices:
                refuse_sweeper(choice)
            self.bases[choices] = self.hydra(list(choices))
        return self.bases[choices]

    def hydra(self, overrides: list[str], with_hydra: bool = False) -> DictConfig:
        """One composition by Hydra itself."""
        try:
            return compose(self.config_name, overrides=[*self.extra, *overrides], return_hydra_config=with_hydra)
        except (HydraException, OmegaConfBaseException, ValueError) as error:  # ValueError: loss=null
            raise UserError(explain(error)) from error

    def overrides(self, run: Run) -> list[str]:
        """The command line of a run: its groups' choices, and every value that differs from theirs."""
        values = schema.as_dict(run)
        fallback = {"dataset": "local", "model": "minilm", "optim": "minilm"}  # of a name that is the user's own
        names = {g: values[g]["name"] for g in schema.CHOICES if g != "selection"} | {"selection": run.selection.split}
        known = {g: name if name in bind.choices(g) else fallback.get(g, name) for g, name in names.items()}
        chosen = [f"{group}={name}" for group, name in known.items()]
        choices = tuple(sorted(chosen))
        if choices not in self.plain:
            self.plain[choices] = cast(dict[str, Any], OmegaConf.to_container(self.base(choices), resolve=False))
        found = chosen + [f"{key}={literal(value)}" for key, value in changes(self.plain[choices], values)]
        if self.run(found) != run:
            raise UserError(f"{run.loss.name} {run.source.name}: no command line gives this run: {' '.join(found)}")
        return found


def refuse_sweeper(choice: str) -> None:
    """A swept group's file that sets the sweeper: Hydra has read the sweeper's parameters before it composes a job.

    Raises:
        UserError: its parameters would count for nothing, and fewer jobs run in silence.
    """
    group, _, name = choice.partition("=")
    for entry in GlobalHydra.instance().config_loader().get_search_path().get_path():
        file = Path(entry.path.removeprefix("file://")) / group / f"{name}.yaml"
        if file.is_file() and OmegaConf.select(OmegaConf.load(file), "hydra.sweeper") is not None:
            raise UserError(
                f"{choice}: {file} sets hydra.sweeper, which counts in the sweep's own file alone (fewer jobs would run, in "
                "silence): move its parameters there"
            )


def changes(base: dict[str, Any], wanted: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The dotted keys whose value differs, each with the wanted one; a whole group where one side has none of it."""
    for key, value in wanted.items():
        old = base.get(key)
        if isinstance(value, dict) and isinstance(old, dict):
            yield from changes(old, value, f"{prefix}{key}.")
        elif value != old:
            yield f"{prefix}{key}", value


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
