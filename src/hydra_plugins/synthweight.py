"""Our Hydra sweeper: blocks of parameters, finished runs dropped, checkers first.

Loaded at every start: keep it light.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf


@dataclass
class SweeperConf:
    """`hydra.sweeper`: a list of parameter maps whose products are united, and how they are carried out.

    Attributes:
        blocks: The parameter maps.
        retry_failed: Try again what failed before; null: only where no block but the command line names the
            runs.
        fail_fast: Begin nothing more after the first failure.
        stack_seeds: Train the seeds of a configuration at once, as one stack.
        worker: The number of this worker, where `synthweight sweep --workers` started several.
        parent: The process that started it.
        total: How many runs were to do; the sweeper itself sets it, for the labels of messages.
    """

    _target_: str = "hydra_plugins.synthweight.SynthweightSweeper"
    blocks: list[dict[str, Any]] = field(default_factory=list)
    retry_failed: bool | None = None
    fail_fast: bool = False
    stack_seeds: bool = False
    worker: int | None = None
    parent: int | None = None
    total: int | None = None


ConfigStore.instance().store(
    group="hydra/sweeper", name="synthweight", node=SweeperConf, provider="synthweight"
)


class SynthweightSweeper(Sweeper):
    """Expands blocks and command line to jobs, checks them, and hands the missing ones to Hydra's launcher."""

    def __init__(self, blocks: Sequence[Any], **options: Any) -> None:
        """Takes the fields of SweeperConf."""
        self.blocks = [dict(block) for block in blocks]

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Instantiates the launcher."""
        self.config = config
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> Any:
        """Plans and runs. Raises SweepFailedError where a run failed, UserError for bad input."""
        from synthweight.config.compose import Composer
        from synthweight.sweeps import grid, plan, worker

        assert self.config is not None
        composer = Composer(self.config.hydra.job.config_name)
        if not self.blocks and composer.config_name not in ("config", "prompt", "generate"):
            grid.blocks_of(composer)  # a sweep's file without blocks: says so
        options = plan.sweep_options(OmegaConf.to_container(self.config.hydra.sweeper))
        in_process = self.config.hydra.runtime.choices["hydra/launcher"] == "basic"
        planned = plan.plan_and_fetch(composer, self.blocks, arguments)
        return worker.run_sweep(planned, self.launcher, options, in_process)
