"""The jobs of a sweep: found by name, expanded from the blocks of its file and the command line."""

from collections import Counter
from collections.abc import Sequence
from itertools import islice, product
from pathlib import Path
from typing import Any

from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from ..config import bind
from ..config.compose import Composer
from ..config.overrides import experiment_overrides, explain_hydra_error, parse
from ..config.schema import CONF, SWEEPS
from ..errors import UserError, first_line

Block = dict[str, Any]
MOST = 100_000  # values of one key


def find_sweep(name: str) -> Path:
    """The file of a sweep.

    Args:
        name: A name in `sweeps/`, or the path of a YAML file.

    Raises:
        UserError: There is no such file, or it could not be composed for its name or its blocks.
    """
    for path in (Path(name), SWEEPS / f"{name}.yaml"):
        if path.is_file():
            if (CONF / f"{path.stem}.yaml").is_file():
                raise UserError(
                    f"{path}: {path.stem} is a configuration of conf/: give the sweep's file another name"
                )
            check_file(path)
            return path.resolve()
    known = ", ".join(sorted(path.stem for path in SWEEPS.glob("*.yaml")))
    raise UserError(f"{name}: no such sweep; there are {known}, or give the path of a YAML file")


def check_file(path: Path) -> None:
    """Raises UserError where a file is no sweep, whatever else it is."""
    try:
        content = OmegaConf.load(path)
        if not isinstance(content, DictConfig) or "defaults" not in content:
            raise UserError(
                f"{path}: no sweep: it begins with 'defaults: [config, _self_]', see sweeps/demo.yaml"
            )
        blocks = OmegaConf.select(content, "hydra.sweeper.blocks", default=ListConfig([]))
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8: save it as UTF-8") from error
    except (YAMLError, OmegaConfBaseException, OSError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark is not None else str(path)
        raise UserError(
            f"{where}: broken YAML ({getattr(error, 'problem', None) or first_line(error)})"
        ) from error
    if not OmegaConf.is_list(blocks) or not all(OmegaConf.is_dict(block) for block in blocks):
        raise UserError(f"{path}: hydra.sweeper.blocks must be a list of parameter maps: - {{loss: ce}}")


def expand(blocks: Sequence[Block], arguments: Sequence[str]) -> list[list[str]]:
    """The jobs of a list of blocks as override lists, equal ones united, in order.

    An override on the command line replaces its key in every block that has it and is added to the others.
    `+experiment=NAME` counts as the overrides that its file holds.

    Args:
        blocks: Parameter maps, each the product of its values; none at all for a plain multirun.
        arguments: The command line.

    Raises:
        UserError: An override that Hydra's grammar does not know, or a value that is given twice.
    """
    given = {o.key_or_group: o for o in parse(experiment_overrides(arguments))}
    jobs: dict[tuple[str, ...], list[str]] = {}
    for block in blocks or [{}]:
        axes = {key: values(f"{key}={value_text(value)}") for key, value in block.items()}
        axes |= {key: values(str(override.input_line)) for key, override in given.items()}
        for combination in product(*axes.values()):
            jobs.setdefault(tuple(sorted(combination)), list(combination))
    return list(jobs.values())


def value_text(value: Any) -> str:
    """A block's value in Hydra's grammar: `a,b` and `range(0,4)` are strings already."""
    if isinstance(value, (list, ListConfig)):
        return ",".join(value_text(v) for v in value)
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def values(line: str) -> list[str]:
    """One override per value of a swept one. Raises UserError for a value given twice."""
    override = parse([line])[0]
    if not override.is_sweep_override():
        return [str(override.input_line)]
    key = override.get_key_element()
    if GlobalHydra.instance().is_initialized():
        override.config_loader = GlobalHydra.instance().config_loader()  # for glob: which choices there are
    try:
        texts = list(islice(override.sweep_string_iterator(), MOST + 1))
    except HydraException as error:
        raise UserError(f"{line}: {explain_hydra_error(error)}") from error
    if len(texts) > MOST:
        raise UserError(f"{line}: more than {MOST:,} values")
    if not texts:
        raise UserError(
            f"{line}: matches nothing; there are {', '.join(bind.choices(override.key_or_group)) or 'no choices'}"
        )
    twice = [text for text, n in Counter(texts).items() if n > 1]
    if twice:
        raise UserError(f"{line}: value {twice[0]} is given twice")
    return [f"{key}={text}" for text in texts]


def blocks_of(composer: Composer) -> list[Block]:
    """The blocks of a sweep's file. Raises UserError where it has none."""
    config = composer.hydra([], with_hydra=True)
    blocks = OmegaConf.to_container(config.hydra.sweeper.blocks)
    if not isinstance(blocks, list) or not blocks:
        raise UserError(
            f"{composer.config_name}: hydra.sweeper.blocks is empty: a sweep is a list of parameter maps"
        )
    return blocks
