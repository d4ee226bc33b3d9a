"""`synthweight wandb dashboard`: the workspace of the W&B project as code.

Its panels name what runs log (`epochs.curves`, `tracking.wandb.summary_of`); a test compares.
"""

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..atomic_io import atomic_path
from ..config import compose, schema
from ..errors import UserError, first_line
from ..runs.store import Store
from ..sweeps.grid import blocks_of, expand, find_sweep
from ..tracking import wandb
from . import wandb_sync

if TYPE_CHECKING:
    from wandb_workspaces.reports.v2 import LinePlot
    from wandb_workspaces.workspaces import Section, Workspace

NAME = "synthweight"
SECONDS = ("prepare", "scores", "weights", "train", "evaluate")  # of a row
# the runs of one line of a table stand together: their seeds are its spread
LINES = ("dataset.name", "source.name", "loss.name")


def dashboard(file: str | None, overrides: list[str], only_json: bool) -> None:
    """Saves the workspace at W&B, of one sweep or of the whole project.

    Its specification is written to the outputs folder as JSON.

    Saved again, it replaces what it saved before; the file remembers where that is.

    Raises:
        UserError: wandb-workspaces is not installed, no such sweep, or a server that does not take it.
    """
    project, group, outputs = destination(file, overrides)
    store = Store(outputs)
    store.prepare()
    name = f"wandb-dashboard-{group}" if group else "wandb-dashboard"
    path = store.root / (re.sub(r"[^-.\w]", "_", name) + ".json")
    owner = "" if only_json else wandb.default_entity()
    made = workspace(owner, project, group)
    record: dict[str, Any] = {"project": project, "entity": owner}
    if owner:
        record |= save(made, {**record, **remembered(path, record)})
        print(f"W&B: {record['url']}", flush=True)
    with atomic_path(path) as part:
        part.write_text(json.dumps(record | {"spec": specification(made)}, indent=1) + "\n", encoding="utf-8")
    print(f"{path}: the dashboard's specification", flush=True)


def destination(file: str | None, overrides: list[str]) -> tuple[str, str | None, str]:
    """The project of a sweep's runs, their group, and the folder of outputs; without a sweep there is no group.

    Raises:
        UserError: no such sweep, a bad setting, or a sweep whose runs go to several projects, groups or folders.
    """
    if file is None:
        with compose.offline(schema.CONF):
            run = compose.Composer("config").run(overrides)
        return run.logger.project, None, run.paths.outputs
    path = find_sweep(file)
    ours = [line for line in overrides if not line.lstrip("+~").startswith("hydra")]
    with compose.offline(path.parent):
        composer = compose.Composer(path.stem)
        jobs = [composer.settings(job) for job in expand(blocks_of(composer), ours)]
    found = {(wandb_sync.project(job), wandb_sync.group(job, path.stem), job.paths.outputs) for job in jobs}
    for i, key in enumerate(("logger.project", "logger.group", "paths.outputs")):
        several = sorted({each[i] for each in found})
        if len(several) > 1:
            raise UserError(
                f"{file}: its runs have several {key} ({', '.join(several)}): give one of them, {key}={several[0]}"
            )
    return found.pop()


def remembered(path: Path, record: dict[str, Any]) -> dict[str, Any]:
    """The name and id under which the same project's dashboard was saved before."""
    before = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    same = all(before.get(key) == value for key, value in record.items())
    return {key: before[key] for key in ("name", "id") if key in before} if same else {}


def save(made: "Workspace", known: dict[str, Any]) -> dict[str, Any]:
    """Saves it, over the one that is known where there is one; its name, id and address. Raises UserError."""
    made._internal_name, made._internal_id = known.get("name", ""), known.get("id", "")
    try:
        made.save()
    except Exception as error:  # of any kind: the library passes on what its transport raises
        raise UserError(
            f"W&B does not take the dashboard: {first_line(error)}; --json writes it to a file"
        ) from error
    return {"name": made._internal_name, "id": made._internal_id, "url": made.url}


def specification(made: "Workspace") -> dict[str, Any]:
    """What is sent to W&B."""
    return json.loads(made._to_model().spec.model_dump_json(by_alias=True, exclude_none=True))


def workspace(entity: str, project: str, group: str | None) -> "Workspace":
    """The dashboard of a project, or of one group of its runs.

    Raises UserError where its package is not installed.
    """
    try:
        import wandb_workspaces.workspaces as ws
        from wandb_workspaces.expr import Config
    except ImportError as error:
        raise UserError(
            "wandb dashboard needs a package that is not installed: pip install -e .[dashboard]"
        ) from error

    return ws.Workspace(
        entity=entity,
        project=project,
        name=f"{NAME}: {group}" if group else NAME,
        sections=sections(),
        settings=ws.WorkspaceSettings(x_axis="epoch", max_runs=100),
        runset_settings=ws.RunsetSettings(
            filters=f"Metric('Group') = '{group}'" if group else "",
            groupby=[Config(key) for key in LINES],
            pinned_columns=["summary:test/accuracy", "summary:test/macro_f1", "summary:selected_epoch"],
        ),
    )


def sections() -> "list[Section]":
    """Curves by epoch, what table 1 is of, weights, seconds."""
    from wandb_workspaces.reports.v2 import BarPlot, MediaBrowser
    from wandb_workspaces.workspaces import Section

    dynamics = [
        curve(f"{series}/{key}")
        for series in ("test", "selection")
        for key in ("accuracy", "macro_f1", "nll")
    ]
    final = [
        BarPlot(
            title=f"{key} at the selected epoch",
            metrics=[key],
            groupby_aggfunc="mean",
            groupby_rangefunc="stddev",
        )
        for key in ("test/accuracy", "test/macro_f1", "test/nll", "test/ece")
    ]
    seconds = [
        BarPlot(title=f"seconds/{key}", metrics=[f"seconds/{key}"], groupby_aggfunc="mean") for key in SECONDS
    ]
    histogram = MediaBrowser(title="weights by epoch", media_keys=["weights/histogram"])
    weights = [histogram, *(curve(f"weights/{key}") for key in ("mean", "std", "max"))]
    listed = {
        "dynamics": [*dynamics, curve("train/loss")],
        "table1": final,
        "weights": weights,
        "timing": seconds,
    }
    return [Section(name=name, panels=panels, is_open=True) for name, panels in listed.items()]


def curve(key: str) -> "LinePlot":
    """A value by epoch: the mean over a group's runs and their standard deviation."""
    from wandb_workspaces.reports.v2 import LinePlot

    return LinePlot(
        title=key,
        x="epoch",
        y=[key],
        groupby_aggfunc="mean",
        groupby_rangefunc="stddev",
        smoothing_type="none",
    )
