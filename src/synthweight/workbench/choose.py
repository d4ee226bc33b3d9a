"""Which method is best for a user's data: cross-validation within the real examples, by ordinary runs."""

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from scipy import stats

from ..config.schema import Run
from ..data.examples import Example, data_hash, overlap_key
from ..data.splits import assign_folds, hash_entropy, split_fold
from ..data.tokenization import encode_examples, load_tokenizer
from ..errors import UserError
from ..metrics import evaluate
from ..models import pretrained
from ..progress import duration_text
from ..reporting.significance import LEVEL, Difference, holm, paired_t, pseudo_values
from ..runs.identity import Identity, identify
from ..training.history import Epoch
from ..training.job import TrainingJob
from ..training.reporter import RunReporter
from ..training.trainer import fit
from .read import UserData
from .workspace import METHODS, Method, Workspace

logger = logging.getLogger(__name__)

METRICS = ("accuracy", "macro_f1")
PROBE_STEPS = 4  # of each of two epochs
FORWARD = 1 / 3  # of a training step's time
LEAST = ("real", "ce", "dimp")  # methods that no budget takes away


@dataclass(frozen=True)
class Candidate:
    """One method's result over all folds, each real example predicted by a model that did not see it.

    Attributes:
        name: Of the method.
        words: What it is.
        score: The metric, a fraction.
        low: The lower end of the score's 95 % interval over examples.
        high: The upper end.
        behind: The best candidate's score − this one's, with the paired 95 % interval.
        metrics: Of the out-of-fold predictions: accuracy, macro_f1, nll, ece, per_class.
    """

    name: str
    words: str
    score: float
    low: float
    high: float
    behind: Difference
    metrics: dict[str, Any]


@dataclass(frozen=True)
class Choice:
    """What the folds say.

    Attributes:
        chosen: The name of the simplest method within one standard error of the best.
        metric: What was compared.
        folds: How many.
        n: How many real examples.
        candidates: The simplest first.
    """

    chosen: str
    metric: str
    folds: int
    n: int
    candidates: tuple[Candidate, ...]

    @property
    def best(self) -> Candidate:
        """The candidate with the largest score; of equal ones the simplest."""
        return max(self.candidates, key=lambda c: c.score)

    @property
    def told_apart(self) -> bool:
        """Whether a candidate differs from the best by more than chance: Holm's correction of the paired tests."""
        return any(p < LEVEL for p in holm([c.behind.p for c in self.candidates if c is not self.best]))

    @property
    def verdict(self) -> str:
        """The choice in a sentence."""
        simplest = f"the simplest within one standard error of the best ({self.best.name})"
        reason = "it has the best score, and no simpler one is within a standard error of it"
        same = f"; no difference between the methods can be told with {self.n} real examples"
        if self.chosen != self.best.name:
            reason = simplest
        return f"{self.chosen}: {reason}{'' if self.told_apart else same}"

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self) | {"best": self.best.name, "told_apart": self.told_apart, "verdict": self.verdict}


@dataclass
class Folds:
    """The real examples in k parts, texts that are equal but for case and punctuation in one of them; the runs of a fold see the others alone.

    Args:
        workspace: Where the trainings are.
        data: The user's examples.
        k: How many folds.
    """

    workspace: Workspace
    data: UserData
    k: int

    def __post_init__(self) -> None:
        examples = self.data.real.examples
        self.numbers = assign_folds(examples, self.k, hash_entropy(data_hash(examples)) % 2**32, overlap_key)
        self.targets = targets(examples, self.data.labels)
        self.datasets = []
        for fold in range(self.k):
            others, left_out = split_fold(examples, self.numbers, fold)
            self.datasets.append(self.workspace.dataset(others, self.data.synthetic.examples, left_out))

    def run(self, way: Method, fold: int) -> Run:
        """One method's run of one fold; `drop10` leaves out what the fold's own checker doubts most.

        Args:
            way: How to train.
            fold: The fold that it does not see, from 0.
        """
        if way.drop is None:
            return self.workspace.run(way, self.datasets[fold])
        checker = self.workspace.train(self.run(METHODS["real"], fold))
        threshold = drop_threshold(self.workspace, checker, self.data, way.drop)
        return self.workspace.run(way, self.datasets[fold], f"loss.threshold={threshold!r}")

    def out_of_fold(self, way: Method) -> np.ndarray:
        """log p of all classes of each real example by the run that did not see it, [n, classes]."""
        out = np.zeros((len(self.targets), len(self.data.labels)))
        for fold in range(self.k):
            out[self.numbers == fold] = self.workspace.test_log_probs(identify(self.run(way, fold)).id)
        return out


def targets(examples: Sequence[Example], labels: Sequence[str]) -> np.ndarray:
    """Positions of the examples' labels.

    Args:
        examples: n of them.
        labels: All labels, in the order of positions.
    """
    position = {label: i for i, label in enumerate(labels)}
    return np.array([position[e.label] for e in examples], dtype=np.int64)


def drop_method(percent: float) -> Method:
    """Trains on the synthetic examples without the worst ones by the quality checker.

    Args:
        percent: How many are left out.
    """
    if not 0 < percent < 100:
        raise UserError(f"--drop {percent:g}: a percentage above 0 and below 100 is expected")
    words = f"synthetic less the most doubted {percent:g} %"
    return Method(f"drop{percent:g}", ("source=synthetic", "loss=filter"), words, percent)


def drop_threshold(workspace: Workspace, checker: Identity, data: UserData, percent: float) -> float:
    """The p̂'(label) below which this percentage of the synthetic examples lies.

    Args:
        workspace: Where the trainings are.
        checker: A finished quality checker.
        data: The user's examples.
        percent: How many are left out.
    """
    examples = data.synthetic.examples
    scores = workspace.score(checker, examples)
    given = scores[np.arange(len(examples)), targets(examples, data.labels)]
    return min(float(np.exp(np.quantile(given, percent / 100))), 1 - 1e-6)


def possible_folds(data: UserData, wanted: int) -> int:
    """As many folds as the rarest class allows, one of its texts in each. Raises UserError below two.

    Args:
        data: The user's examples.
        wanted: How many folds there should be.
    """
    different = Counter({overlap_key(e): e.label for e in reversed(data.real.examples)}.values())
    rarest = min(data.labels, key=lambda label: different[label])
    if different[rarest] < 2:
        few = f"{data.real.where}: class {rarest!r} has {different[rarest]} real example"
        raise UserError(
            f"{few}: cross-validation needs at least 2 of each class: add some, or leave the class out"
        )
    if different[rarest] < wanted:
        most = different[rarest]
        logger.warning("%d folds instead of %d: class %r has no more real texts", most, wanted, rarest)
    return min(wanted, different[rarest])


@dataclass(frozen=True)
class Plan:
    """What will be trained.

    Args:
        folds: How many.
        methods: The candidates.
        trainings: How many trainings are missing.
        seconds: About how long they take.
    """

    folds: int
    methods: tuple[Method, ...]
    trainings: int
    seconds: float


@dataclass
class EpochClock(RunReporter):
    """Notes when each epoch of a training begins and ends, by `perf_counter`.

    Attributes:
        begins: Of each epoch.
        ends: Of each epoch.
    """

    begins: list[float] = field(default_factory=list)
    ends: list[float] = field(default_factory=list)

    def epoch_started(self, number: int, epochs: int, steps: int) -> None:
        self.begins.append(time.perf_counter())

    def epoch_finished(self, number: int, epochs: int, epoch: Epoch) -> None:
        self.ends.append(time.perf_counter())


def seconds_per_example(data: UserData, run: Run) -> float:
    """How long an example takes in a training step on this machine, by a short training on the user's texts.

    Its first epoch warms up, its second one counts.

    Args:
        data: The user's examples.
        run: With the encoder, the recipe and the trainer that are to be used.
    """
    pool = data.synthetic.examples
    drawn = np.random.default_rng(0).choice(len(pool), size=PROBE_STEPS * run.optim.batch_size)
    examples = [pool[i] for i in drawn]
    folder = pretrained.locate(run.model)
    tokens = encode_examples(load_tokenizer(folder), examples, run.optim.max_length)
    split = tokens, targets(examples, data.labels)
    job = replace(TrainingJob.from_run(run, folder, data.labels, split, {}), epochs=2)
    clock = EpochClock()
    fit(job, clock)
    return (clock.ends[1] - clock.begins[1]) / len(examples)


def cost(run: Run, data: UserData, share: float) -> float:
    """How many examples' training steps take as long as a run.

    Args:
        run: Its settings.
        data: The user's examples.
        share: Of the real examples, that the run may see.
    """
    real, synthetic = share * len(data.real.examples), len(data.synthetic.examples)
    train = {"small_real": real, "mixed": real + synthetic}.get(run.source.name, synthetic)
    evaluated = real * run.epochs if run.selection.split == "dprime" else 0
    scored = synthetic if run.loss.needs else 0
    return run.epochs * train + FORWARD * (evaluated + scored + train)


def plan(
    workspace: Workspace,
    data: UserData,
    folds: int,
    methods: Sequence[Method],
    rate: float,
    budget: float | None = None,
) -> Plan:
    """The largest plan within a budget: fewer folds, then fewer methods. Raises UserError.

    Args:
        workspace: Where the trainings are.
        data: The user's examples.
        folds: The most folds.
        methods: The candidates.
        rate: Seconds per example, from `seconds_per_example`.
        budget: Seconds; None for no limit.
    """
    smaller = [
        (folds, list(methods)),
        (min(folds, 3), list(methods)),
        *((min(folds, 3), [m for m in methods if m.name not in gone]) for gone in _gone(methods)),
        (2, [m for m in methods if m.name in LEAST]),
    ]
    for k, kept in smaller:
        folds_of = Folds(workspace, data, k)
        todo = _missing(folds_of, kept)
        # on all data
        last = [workspace.run(METHODS[name], folds_of.datasets[0]) for name in ("real", "mixed")]
        examples = sum(cost(run, data, 1 - 1 / k) for run in todo) + sum(cost(run, data, 1) for run in last)
        seconds = rate * examples
        if budget is None or seconds <= budget:
            if (k, len(kept)) != (folds, len(methods)):
                names = ", ".join(m.name for m in kept)
                logger.warning("within the budget: %d folds instead of %d, methods %s", k, folds, names)
            return Plan(k, tuple(kept), len(todo) + len(last), seconds)
    least = f"--budget: even {k} folds of {len(kept)} methods take about {duration_text(seconds)}"
    raise UserError(f"{least}: raise it, or name the loss by --loss")


def _gone(methods: Sequence[Method]) -> Iterator[set[str]]:
    gone: set[str] = set()
    for m in reversed(methods):
        if m.name not in LEAST:
            gone = gone | {m.name}
            yield gone


def _missing(folds: Folds, methods: Sequence[Method]) -> list[Run]:
    found: dict[str, Run] = {}
    for fold in range(folds.k):
        for way in methods:
            # of a method that drops, the threshold is known only once its checker is trained
            drops = way.drop is not None
            run = folds.workspace.run(METHODS["filter"] if drops else way, folds.datasets[fold])
            for run_id, one in folds.workspace.missing(run).items():
                found[f"{run_id} {way.name}" if drops and one.loss.name == "filter" else run_id] = one
    return list(found.values())


Step = Callable[[str], AbstractContextManager[Any]]  # shows one training by its name


def train_folds(folds: Folds, methods: Sequence[Method], step: Step = lambda _: nullcontext()) -> None:
    """Trains every method on every fold. The models of a finished fold are deleted; rows and scores stay.

    Args:
        folds: The real examples in parts.
        methods: The candidates.
        step: Shows one training.
    """
    for fold in range(folds.k):
        ids = []
        for way in methods:
            with step(f"fold {fold + 1}/{folds.k} {way.name}"):
                ids.append(folds.workspace.train(folds.run(way, fold)).id)
        for run_id in ids:
            folds.workspace.drop_model(run_id)


def compare(folds: Folds, methods: Sequence[Method], metric: str = "accuracy") -> Choice:
    """The methods' scores over trained folds, and the simplest within a standard error of the best.

    Each real example counts once, predicted by the run that did not see it. A score's interval is by the t
    distribution of the metric's jackknife pseudo-values over the examples. The one-standard-error rule
    (Breiman et al. 1984) takes the standard error of the **paired** difference to the best, since all
    methods predict the same examples.

    Args:
        folds: Whose runs are finished.
        methods: The candidates.
        metric: accuracy or macro_f1.
    """
    n, classes = len(folds.targets), len(folds.data.labels)
    log_probs = {m.name: folds.out_of_fold(m) for m in methods}
    predictions = {name: p.argmax(axis=1)[None] for name, p in log_probs.items()}
    values = {name: pseudo_values(p, folds.targets, classes, metric)[0] for name, p in predictions.items()}
    best = max(methods, key=lambda m: values[m.name].mean())
    half = float(stats.t.ppf(0.975, n - 1))
    candidates = []
    for m in methods:
        score, spread = float(values[m.name].mean()), float(values[m.name].std(ddof=1) / np.sqrt(n))
        behind = paired_t((values[best.name] - values[m.name]).tolist())
        interval = max(0.0, score - half * spread), min(1.0, score + half * spread)
        metrics = evaluate(log_probs[m.name], folds.targets, folds.data.labels)
        candidates.append(Candidate(m.name, m.words, score, *interval, behind, metrics))
    chosen = next(c for c in candidates if c.behind.mean <= c.behind.standard_error)
    return Choice(chosen.name, metric, folds.k, n, tuple(candidates))
