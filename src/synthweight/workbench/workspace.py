"""Where `fit` works: data sets named by their content, and trainings as runs of the ordinary engine."""

import hashlib
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from shutil import rmtree

import numpy as np
import pyarrow.compute as pc

from .. import progress
from ..atomic_io import part_path
from ..config import bind, compose
from ..config.schema import CONF, Model, Run
from ..data.examples import Example, data_hash, write_jsonl
from ..errors import UserError
from ..losses import LOSSES
from ..models.pretrained import locate
from ..runs import run as engine
from ..runs.identity import Identity, identify
from ..runs.store import Store

OWN = ("dataset", "source", "loss", "selection", "model", "seed", "paths", "logger")  # set here alone
SPLITS = ("small_real", "synthetic", "test")


@dataclass(frozen=True)
class Method:
    """One way to train: what a run reads and how it weighs.

    Args:
        name: Of the method.
        overrides: Its settings.
        words: What it is, for tables.
        drop: The percentage of the most doubted synthetic examples that it leaves out.
    """

    name: str
    overrides: tuple[str, ...]
    words: str
    drop: float | None = None


METHODS = {  # the simplest first
    m.name: m
    for m in (
        Method("real", ("source=small_real", "selection=last", "loss=ce"), "real examples only"),
        Method("ce", ("source=synthetic", "loss=ce"), "synthetic examples, all alike"),
        Method("mixed", ("source=mixed", "selection=last", "loss=ce"), "both together, all alike"),
        Method("filter", ("source=synthetic", "loss=filter"), "synthetic, doubtful labels left out"),
        Method("dimp", ("source=synthetic", "loss=dimp"), "synthetic, weighted by DIMP"),
        Method("imp", ("source=synthetic", "loss=imp"), "synthetic, weighted by IMP"),
    )
}


def method(name: str) -> Method:
    """A method by name: one of METHODS, or any loss on the synthetic examples. Raises UserError."""
    if name in METHODS:
        return METHODS[name]
    if name not in LOSSES:
        known = [*METHODS, *sorted(set(LOSSES) - set(METHODS))]
        raise UserError(f"--loss {name}: there are {', '.join(known)}")
    return Method(name, ("source=synthetic", f"loss={name}"), f"synthetic, loss {name}")


@dataclass
class Workspace:
    """A folder of work, and the settings that all its runs share.

    Attributes:
        folder: Holds `data/`, `rows/` and `runs/`; what is in it is found again by the same command.
        model: A name of `conf/model`, a folder, or a name on the hub.
        seed: Of every run.
        overrides: Further settings of every run, `key=value`.
    """

    folder: Path
    model: str = "minilm"
    seed: int = 0
    overrides: Sequence[str] = ()
    _bound: dict[tuple[str, ...], Run] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        for override in self.overrides:
            if override.lstrip("+~").split("=")[0].split(".")[0] in OWN:
                raise UserError(f"{override}: fit sets {', '.join(OWN)} itself: see synthweight fit --help")

    @property
    def store(self) -> Store:
        """The ordinary store of rows and runs."""
        return Store(self.folder)

    def dataset(self, real: Sequence[Example], synthetic: Sequence[Example], test: Sequence[Example]) -> Path:
        """The folder of a data set (`dataset.path`), named by its content; written whole or not at all.

        Args:
            real: The real training examples.
            synthetic: The LLM-written ones.
            test: The test examples.
        """
        parts = dict(zip(SPLITS, (real, synthetic, test), strict=True))
        name = hashlib.sha256("".join(data_hash(part) for part in parts.values()).encode()).hexdigest()[:16]
        folder = self.folder / "data" / name
        if not folder.is_dir():
            part = part_path(folder)
            try:
                for split, examples in parts.items():
                    write_jsonl(part / f"{split}.jsonl", map(as_row, examples))
                part.rename(folder)
            except OSError:
                if not folder.is_dir():  # another `fit` of the same data was quicker
                    raise
            finally:
                rmtree(part, ignore_errors=True)
        return folder

    def run(self, way: Method, dataset: Path, *more: str) -> Run:
        """The settings of one run. Raises UserError.

        Args:
            way: How to train.
            dataset: The folder of the data.
            more: Further settings, `key=value`.
        """
        path, folder = (compose.literal(str(p)) for p in (dataset, self.folder))
        places = f"dataset.path={path}", f"paths.outputs={folder}", f"paths.cache={folder}"
        fixed = "dataset=local", *places, "logger=none", f"seed={self.seed}"
        overrides = (*fixed, *model_overrides(self.model), *way.overrides, *more, *self.overrides)
        if overrides not in self._bound:
            with compose.offline(CONF):
                self._bound[overrides] = compose.Composer("config").run(list(overrides))
        return self._bound[overrides]

    def train(self, run: Run) -> Identity:
        """Trains a run and its checkers where their rows are missing."""
        engine.train(run)
        return identify(run)

    def test_log_probs(self, run_id: str) -> np.ndarray:
        """log p of all classes of a finished run's test examples, in their order, [n, classes]."""
        table = self.store.table(run_id)
        table = table.filter(pc.equal(table["split"], "test"))
        return np.stack(table["log_probs"].to_numpy(zero_copy_only=False)).astype(np.float64)

    def weights(self, run_id: str) -> dict[str, float]:
        """The weight of each training example at the selected epoch, by id."""
        table = self.store.table(run_id)
        chosen = pc.equal(table["epoch"], self.store.row(run_id)["selected_epoch"])
        table = table.filter(pc.and_(pc.equal(table["split"], "train"), chosen))
        return dict(zip(table["id"].to_pylist(), table["weight"].to_pylist(), strict=True))

    def score(self, checker: Identity, examples: Sequence[Example]) -> np.ndarray:
        """log p of all classes by a finished run's model, [n, classes].

        Args:
            checker: A finished run.
            examples: To be scored.
        """
        return engine.checker_log_probs(self.store, checker, tuple(examples)).astype(np.float64)

    def model_folder(self, identity: Identity) -> Path:
        """The folder of a finished run's model; trains it again where it is gone; the row stays."""
        store = self.store
        if not store.model_folder(identity.id).is_dir():
            with store.lock(identity.id):
                engine.ensure_model(store, identity)
        return store.model_folder(identity.id)

    def missing(self, run: Run) -> dict[str, Run]:
        """The trainings that a run still takes, by id: its own and its checkers'."""
        found: dict[str, Run] = {}
        todo = [identify(run)]
        while todo:
            one = todo.pop()
            if not self.store.exists(one.id):
                found[one.id] = one.run
                todo += one.checkers.values()
        return found

    def drop_model(self, run_id: str) -> None:
        """Deletes a run's model; its row and its scores stay."""
        with self.store.lock(run_id):  # another `fit` of the same data may be reading it
            rmtree(self.store.model_folder(run_id), ignore_errors=True)


def as_row(e: Example) -> dict[str, str]:
    """An example as a line of the engine's JSONL."""
    row = {"id": e.id, "text": e.text, "label": e.label}
    return row if e.text_pair is None else row | {"text_pair": e.text_pair}


@contextmanager
def quiet_engine() -> Iterator[None]:
    """Within it the engine's own lines and bars of each run are not shown.

    What `data.sources` says of splits is true of one fold, or of D_P' that stands in for a test set; `read` and
    `api.describe` have said it of the whole.
    """
    shown = dict.fromkeys(("runs", "training", "data", "models"), logging.WARNING)
    shown["data.sources"] = logging.ERROR
    loggers = [logging.getLogger(f"synthweight.{name}") for name in shown]
    levels, bars = [logger.level for logger in loggers], progress.enabled
    progress.enabled = False
    try:
        for logger, level in zip(loggers, shown.values(), strict=True):
            logger.setLevel(level)
        yield
    finally:
        progress.enabled = bars
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def model_overrides(model: str) -> list[str]:
    """The overrides for an encoder: a name of `conf/model`, a folder, or a name on the hub.

    Raises:
        UserError: The hub cannot be reached, or has no such encoder.
    """
    if model in bind.choices("model"):
        return [f"model={model}"]
    unpinned = ["model.sha256=null", "model.package=null"]
    if Path(model).is_dir():
        return [*unpinned, "model.hub=null", f"model.path={compose.literal(model)}"]
    hub = [
        f"model.name={compose.literal(Path(model).name)}",
        f"model.hub={compose.literal(model)}",
        *unpinned,
    ]
    folder = locate(Model(model, None, None, None, model, None, None))  # its config.json says which recipe
    return [*hub, f"model.path={compose.literal(str(folder))}"]
