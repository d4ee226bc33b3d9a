"""Our Hydra Sweeper: blocks of parameters, finished runs dropped, checkers first. Loaded at every start: keep it light."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


@dataclass
class SweeperConf:
    """`hydra.sweeper`: a list of parameter maps whose products are united, and how their rows are shown."""

    _target_: str = "hydra_plugins.synthweight.SynthweightSweeper"
    blocks: list[dict[str, Any]] = field(default_factory=list)
    table: str = "results"  # the kind of the sweep's table, of publish.TABLES
    figures: list[str] = field(default_factory=list)  # the kinds of its figures, of charts.CHARTS
    checkers: list[str] = field(default_factory=list)  # quality or diversity: its runs' checkers as lines of its table


ConfigStore.instance().store(group="hydra/sweeper", name="synthweight", node=SweeperConf, provider="synthweight")


class SynthweightSweeper(Sweeper):
    """Expands blocks and command line to jobs, checks all of them, and hands what is missing to Hydra's launcher."""

    def __init__(self, blocks: Sequence[Any], table: str, figures: Sequence[str], checkers: Sequence[str]) -> None:
        """All but `blocks` is for `synthweight tables` and `figures`; a launch needs the blocks alone."""
        self.blocks = [dict(block) for block in blocks]

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.config = config
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> Any:
        from synthweight.config.compose import Composer
        from synthweight.sweeps import grid, plan, worker

        assert self.config is not None
        composer = Composer(self.config.hydra.job.config_name)
        if not self.blocks and composer.config_name != "config":
            grid.blocks_of(composer)  # a sweep's file without blocks: says so
        planned = plan.ready(composer, self.blocks, [*arguments, *grid.aside()])
        return worker.execute(planned, self.launcher, plan.Options.handed())
