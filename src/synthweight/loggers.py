"""Where curves go besides the row: a CSV file, or W&B. The only file that knows W&B."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import CSVLogger, Logger


@contextmanager
def opened(
    name: str, project: str, run_id: str, folder: Path, labels: dict[str, str], config: dict[str, Any]
) -> Iterator[list[Logger]]:
    """The loggers of one run, closed in every case (a second `wandb.init` in a process would return the first run).

    Args:
        name: csv, wandb or none. folder: of the run. labels: loss, source, dataset, model. config: resolved.
    """
    if name == "none":
        yield []
        return
    if name == "csv":
        yield [CSVLogger(folder, name=None, version="csv")]
        return
    import wandb
    from pytorch_lightning.loggers import WandbLogger

    folder.mkdir(parents=True, exist_ok=True)
    wandb.finish()
    logger = WandbLogger(
        project=project,
        id=run_id,
        name=f"{labels['loss']}-{labels['source']}-{labels['seed']}",
        save_dir=str(folder),
        job_type=labels["loss"],
        tags=[labels["dataset"], labels["source"], labels["model"]],
        config=config,
    )
    code = 1
    try:
        yield [logger]
        code = 0
    finally:
        wandb.finish(exit_code=code)
