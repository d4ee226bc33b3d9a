"""`fit` and `load`: from two sets of examples to a classifier in a folder."""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from shutil import copytree
from typing import Any

import numpy as np
from sklearn.metrics import confusion_matrix

from ..config.schema import Run
from ..data.examples import overlap_key
from ..data.tokenization import tokenize
from ..errors import UserError
from ..metrics import evaluate
from ..models import classifier, pretrained
from ..models.embeddings import embed
from ..progress import duration_text
from ..reporting import pages
from ..runs import calibration
from . import audit, choose, export
from .audit import AuditRow
from .export import Fit
from .predict import Predictor, Texts, read_settings
from .read import Columns, UserData, read_all
from .workspace import METHODS, Method, Workspace, method, quiet_engine

logger = logging.getLogger(__name__)

CACHE = Path(".cache") / "fit"
Steps = Callable[[int, str], AbstractContextManager[choose.Step]]  # shows so many trainings of a phase


@contextmanager
def log_steps(total: int, phase: str) -> Iterator[choose.Step]:
    """A line per training: for logs, and where there is no terminal.

    Args:
        total: How many trainings.
        phase: What they are for.
    """
    started, done = time.perf_counter(), 0

    @contextmanager
    def step(name: str) -> Iterator[None]:
        nonlocal done
        yield
        done += 1
        spent = time.perf_counter() - started
        left = duration_text(spent / done * (total - done))
        logger.info("%s %d/%d: %s · %s, about %s left", phase, done, total, name, duration_text(spent), left)

    yield step


class Fitted:
    """A classifier that `fit` made.

    Attributes:
        folder: Where it lies.
        settings: What `fit.json` says: method, labels, counts, choice, estimate, test.
    """

    def __init__(self, folder: str | Path) -> None:
        """Opens a folder of `fit`; the network is loaded at the first prediction. Raises UserError."""
        self.folder = Path(folder)
        self.settings = read_settings(self.folder)
        self._predictor: Predictor | None = None

    def __repr__(self) -> str:
        return f"Fitted({str(self.folder)!r}, method={self.settings['method']!r}, labels={self.labels!r})"

    @property
    def labels(self) -> tuple[str, ...]:
        """The classes, sorted by name."""
        return tuple(self.settings["labels"])

    @property
    def predictor(self) -> Predictor:
        """The network in memory."""
        self._predictor = self._predictor or Predictor(self.folder)
        return self._predictor

    def predict(self, texts: Texts) -> list[str]:
        """The most probable label of each text (or pair of texts).

        Args:
            texts: A list of texts, or of pairs.
        """
        return [self.labels[i] for i in self.predictor.log_probs(texts).argmax(axis=1)]

    def predict_proba(self, texts: Texts) -> np.ndarray:
        """The probability of each class, [n, classes]; classes as in `labels`.

        Args:
            texts: A list of texts, or of pairs.
        """
        return np.exp(self.predictor.log_probs(texts).astype(np.float64))

    @property
    def audit(self) -> list[AuditRow]:
        """The synthetic examples, those with the least supported labels first."""
        return audit.read(self.folder / export.AUDIT)

    @property
    def weights(self) -> dict[str, float | None]:
        """The weight of each synthetic example in the final training, by its id; None: not trained on."""
        return {row.id: row.weight for row in self.audit}

    def save(self, folder: str | Path, overwrite: bool = False) -> Path:
        """Copies the classifier's folder. Raises UserError where the target exists.

        Args:
            folder: To be written.
            overwrite: Replace an earlier folder of `fit`.
        """
        export.place(Path(folder), lambda part: copytree(self.folder, part), overwrite)
        return Path(folder)


def load(folder: str | Path) -> Fitted:
    """Opens a classifier that `fit` made. Raises UserError where the folder is none."""
    return Fitted(folder)


def fit(
    real: Any,
    synthetic: Any,
    *,
    test: Any = None,
    out: str | Path | None = None,
    overwrite: bool = False,
    text: str | None = None,
    text_pair: str | None = None,
    label: str | None = None,
    loss: str | None = None,
    model: str = "minilm",
    folds: int = 5,
    metric: str = "accuracy",
    budget: float | None = None,
    drop: Sequence[float] = (),
    drop_unknown: bool = False,
    texts: bool = True,
    seed: int = 0,
    work: str | Path = CACHE,
    overrides: Sequence[str] = (),
    steps: Steps = log_steps,
) -> Fitted:
    """Chooses how to train on a user's data, trains, and writes one folder.

    Args:
        real: Real labelled examples: a path (CSV, TSV, JSONL, JSON, Parquet, each also `.gz`; a folder of
            `datasets`), a name on the hub (`NAME:SPLIT`), a `pandas.DataFrame`, a `datasets.Dataset`, or a
            list of dictionaries.
        synthetic: LLM-written labelled examples, likewise.
        test: Real examples that are used once, at the end.
        out: The folder to write; None: one in `work`.
        overwrite: Replace an earlier folder of `fit`.
        text: The column of the text; None: guessed.
        text_pair: The column of the second text of a pair.
        label: The column of the label.
        loss: The method, which is chosen otherwise: real, ce, mixed, filter, dimp, imp, or any loss.
        model: The encoder: a name of `conf/model`, a folder, or a name on the hub.
        folds: Folds of the cross-validation.
        metric: What is compared: accuracy or macro_f1.
        budget: Minutes that the trainings may take, by the forecast.
        drop: Percentages: further candidates, each without that share of the most doubted synthetic examples.
        drop_unknown: Leave out examples whose label the other set does not have.
        texts: Write the synthetic texts into the audit and the report.
        seed: Of every training.
        work: The folder of trainings; the same call again goes on where it stopped.
        overrides: Further settings of every run, such as `optim.epochs=3`.
        steps: Shows progress.

    Returns:
        The classifier.

    Raises:
        UserError: Bad input, in one line.
    """
    if metric not in choose.METRICS:
        raise UserError(f"--metric {metric}: one of {', '.join(choose.METRICS)}")
    if folds < 2:
        raise UserError(f"--folds {folds}: at least 2")
    chosen = None if loss is None else method(loss)
    if chosen is not None and drop:
        raise UserError(
            "--drop is a candidate of the comparison, and --loss compares nothing: give one of them"
        )
    methods = [*METHODS.values(), *map(choose.drop_method, drop)] if chosen is None else [METHODS["real"]]
    if out is not None:
        export.check_target(Path(out), overwrite)
    workspace = Workspace(Path(work), model, seed, tuple(overrides))
    data = read_all(real, synthetic, test, Columns(text, text_pair, label), drop_unknown)
    workspace.store.prepare()
    k = choose.possible_folds(data, folds)
    first = workspace.run(METHODS["ce"], choose.Folds(workspace, data, k).datasets[0])
    network = classifier.build(pretrained.locate(first.model), data.labels)
    classifier.last_layer(
        network, len(data.labels)
    )  # one that cannot be calibrated is refused now, not at the end
    facts = describe(first, data)
    rate = choose.seconds_per_example(data, first)
    planned = choose.plan(workspace, data, k, methods, rate, None if budget is None else 60 * budget)
    logger.info("%d trainings, about %s on this machine", planned.trainings, duration_text(planned.seconds))
    cross = choose.Folds(workspace, data, planned.folds)
    with quiet_engine():
        with steps(planned.folds * len(planned.methods), "folds") as step:
            choose.train_folds(cross, planned.methods, step)
        choice = None
        if chosen is None:
            choice = choose.compare(cross, planned.methods, metric)
            chosen = next(m for m in planned.methods if m.name == choice.chosen)
        with steps(2, "training") as step:
            return _finish(workspace, data, cross, chosen, choice, facts, step, out, overwrite, texts)


def describe(run: Run, data: UserData) -> list[str]:
    """What is worth knowing about the data before anything is trained; said once, and on the model card."""
    facts = [
        f"{name.capitalize()} texts that come with more than one label: {n}."
        for name, n in data.conflicts.items()
        if n
    ]
    real = {overlap_key(e) for e in data.real.examples}
    same = sum(overlap_key(e) in real for e in data.synthetic.examples)
    if same:
        facts.append(f"Synthetic texts that equal a real one, and were not trained on: {same}.")
    longest = run.optim.max_length
    for part in (data.real, data.synthetic):
        folder, sha256 = pretrained.locate(run.model), pretrained.fingerprint(run.model)
        lengths = tokenize(folder, sha256, part.examples, longest + 1, Path(run.paths.cache)).lengths
        if cut := int((lengths > longest).sum()):
            facts.append(f"{part.name.capitalize()} texts cut to {longest} tokens (optim.max_length): {cut}.")
    for fact in facts:
        logger.warning("%s", fact)
    return facts


def _finish(
    workspace: Workspace,
    data: UserData,
    cross: choose.Folds,
    way: Method,
    choice: choose.Choice | None,
    facts: list[str],
    step: choose.Step,
    out: str | Path | None,
    overwrite: bool,
    texts: bool,
) -> Fitted:
    """The final training on all data, the audit, and the folder."""
    real, synthetic = data.real.examples, data.synthetic.examples
    dataset = workspace.dataset(real, synthetic, data.test.examples if data.test else real)
    with step("quality checker"):
        checker = workspace.train(workspace.run(METHODS["real"], dataset))
    more = ["trainer.keep_model=true"]
    if way.drop is not None:
        more.append(f"loss.threshold={choose.drop_threshold(workspace, checker, data, way.drop)!r}")
    run = workspace.run(way, dataset, *more)
    with step(way.name):
        final = workspace.train(run)
    out_of_fold = cross.out_of_fold(METHODS["real"])
    smoothing = 1 / (len(cross.targets) + 2)
    checker_temperature = calibration.temperature(out_of_fold, cross.targets, smoothing)
    scores = calibration.rescale(workspace.score(checker, synthetic), checker_temperature)
    weights = {} if way.name == "real" else workspace.weights(final.id)
    from ..training.devices import device

    place = device(run.trainer.accelerator)
    vectors = embed(pretrained.locate(run.model), (synthetic, real), run.optim.max_length, place)
    embeddings = vectors[0], vectors[1]
    rows = audit.audit(synthetic, real, data.synthetic.ids, data.labels, scores, weights, embeddings)
    log_probs, targets, temperature, estimate, test = None, cross.targets, None, None, None
    if choice is not None or way.name == "real":
        raw = cross.out_of_fold(way)
        temperature = calibration.temperature(raw, targets, smoothing)
        log_probs = calibration.cross_rescale(raw, targets, cross.numbers, smoothing)
        estimate = evaluate(log_probs, targets, data.labels)
    if data.test is not None:
        log_probs = calibration.rescale(workspace.test_log_probs(final.id), temperature or 1.0)
        targets = choose.targets(data.test.examples, data.labels)
        test = evaluate(log_probs, targets, data.labels)
    tables = [data.real, data.synthetic] + ([data.test] if data.test else [])
    fitted = Fit(
        method=way.name,
        words=way.words,
        labels=list(data.labels),
        pairs=data.pairs,
        max_length=run.optim.max_length,
        columns=data.real.columns,
        encoder=run.model.hub or run.model.name,
        counts={table.name: dict(sorted(table.labels.items())) for table in tables},
        facts=facts,
        choice=None if choice is None else choice.as_dict(),
        estimate=estimate,
        test=test,
        reliability=None if log_probs is None else pages.reliability(log_probs, targets),
        confusion=None if log_probs is None else confusion_matrix(
            targets, log_probs.argmax(axis=1), labels=range(len(data.labels))
        ).tolist(),
        temperature=temperature,
        checker_temperature=checker_temperature,
        checker=evaluate(
            calibration.cross_rescale(out_of_fold, cross.targets, cross.numbers, smoothing), cross.targets, data.labels
        ),
        seed=run.seed,
        row=final.id,
    )  # fmt: skip
    store = workspace.store
    folder = Path(out) if out is not None else workspace.folder / "fitted" / final.id
    # without a test set the run was tested on what it was trained on: its row says nothing
    row = [store.json_path(final.id), store.parquet_path(final.id)] if data.test else []
    export.write(folder, fitted, rows, workspace.model_folder(final), row, texts, overwrite or out is None)
    return Fitted(folder)
