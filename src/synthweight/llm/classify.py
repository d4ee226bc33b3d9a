"""The LLM itself as a few-shot classifier of test: a row like any other, without a training in it."""

import logging
import shlex
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import metrics
from ..data import sources, splits
from ..data.examples import Examples
from ..errors import UserError, disk_full
from ..runs import identity, provenance
from ..runs.identity import Identity
from ..runs.store import FORMAT, PredictionTable, Store
from . import few_shot, parsing
from .generate import content_hash, model_settings
from .journal import Journal, Reply
from .prompts import PromptBuilder
from .request_pool import RequestPool

logger = logging.getLogger(__name__)

if TYPE_CHECKING:
    from ..config.llm_schema import Prompt
    from .few_shot import ExamplePool

METHODS = ("log-probabilities", "parsing", "unparseable")
# of a template: what is read here
PROMPT_FIELDS = ("task", "words", "case", "classify_chat", "classify_base")


@dataclass(frozen=True)
class Answer:
    """A reply as a prediction.

    Attributes:
        prediction: Index of the label; -1 where the reply names none.
        log_probs: log p of all labels, in nats; None where the server gave none.
        method: How the label was read: one of METHODS.
    """

    prediction: int
    log_probs: list[float] | None
    method: str


def identify(settings: "Prompt", pinned: bool = False) -> "Identity[Prompt]":
    """What names a few-shot classification: model, prompt, shots, data.

    Args:
        settings: The classification.
        pinned: Name data that are not on this machine by their pinned hashes.

    Raises:
        UserError: Bad data.
    """
    pins = sources.pinned_hashes(settings) if pinned else None
    data = pins or {name: split.sha256 for name, split in sources.load_splits(settings).items()}
    generator = settings.generator
    model = {key: value for key, value in model_settings(generator).items() if key != "seeded"}
    read = {
        "command": "prompt",
        "dataset": {"name": settings.dataset.name},
        "generator": model | {"logprobs": generator.logprobs, "greedy": generator.temperature is not None},
        "prompt": content_hash({key: getattr(generator.prompt, key) for key in PROMPT_FIELDS}),
        "shots": settings.shots,
        "n": settings.n,
        "seed": settings.seed,
    }
    return Identity(run=settings, settings=identity.without_first_values(read), data=data, checkers={})


def describe(settings: "Prompt") -> str:
    """A few-shot classification in a few words."""
    return f"{settings.dataset.name} prompt {settings.generator.model} {settings.shots} shots seed {settings.seed}"


def classify(settings: "Prompt", prefix: str = "", wait: bool = True) -> str:
    """Requests the label of every test example and writes the row, unless the row exists already.

    Args:
        settings: Which data, which model, how many shots.
        prefix: What messages begin with.
        wait: Wait where another process holds the run's lock.

    Returns:
        The id of the row.

    Raises:
        UserError: Bad input; a server that refuses or stays silent: its replies are kept, and the same
            command goes on.
        RunLockedError: Another process holds its lock and `wait` is False.
    """
    run = identify(settings)
    store = Store(settings.paths.outputs)
    name = prefix + describe(settings)
    if store.exists(run.id):
        logger.info("%s: done already (%s), nothing to do", name, run.id)
        return run.id
    pool = few_shot.load_pool(settings)
    prompts = PromptBuilder(settings.generator, pool)
    examples = select_test_examples(settings, pool)
    journal = Journal(store.run_folder(run.id) / "journal.jsonl", {**run.settings, "data": run.data})
    requests = RequestPool(settings.generator, journal, name)
    store.prepare()
    with store.lock(run.id, wait):
        if store.exists(run.id):
            return run.id
        try:
            row = _classify(settings, pool, prompts, examples, requests)
            store.write_row({"id": run.id, **row.record}, row.table)
            store.clear_failure(run.id)
        except Exception as error:
            if not disk_full(error):
                store.record_failure(run.id, error, shlex.join(provenance.command()))
            raise
    test, methods = row.record["epochs"][0]["test"], row.record["answers"]
    how = ", ".join(
        f"{n} {method} (counted as wrong)" if method == METHODS[2] else f"{n} by {method}"
        for method, n in methods.items()
    )
    scores = f"test accuracy {test['accuracy']:.1%}, macro F1 {test['macro_f1']:.1%}"
    logger.info("%s: %s; %s (%s)", name, scores, how, run.id)
    return run.id


def select_test_examples(settings: "Prompt", pool: "ExamplePool") -> Examples:
    """The test examples to classify: all, or a stratified and nested subset that is the same for every seed."""
    test = pool.test.examples
    if settings.n is not None and settings.n > len(test):
        raise UserError(f"n={settings.n}: test has {len(test)} examples")
    return splits.nested_subset(test, settings.n, pool.test.sha256, seed=0)


@dataclass(frozen=True)
class _Row:
    """What the store writes: the JSON without its id, and the Parquet."""

    record: dict[str, Any]
    table: Any


def _classify(
    settings: "Prompt", pool: "ExamplePool", prompts: PromptBuilder, examples: Examples, requests: RequestPool
) -> _Row:
    """Sends the requests that the journal has no reply to, and makes the row of all replies."""
    started, clock = provenance.utc_now(), time.perf_counter()
    journal = requests.journal
    journal.load()
    shots = pool.draw_of_each(settings.shots, settings.seed)
    requests.fetch((prompts.classify(e.id, e, shots) for e in examples), len(examples) - len(journal.replies))
    replies = [journal.replies[e.id] for e in examples]
    answers = [read_answer(reply, prompts) for reply in replies]
    counts = Counter(a.method for a in answers)
    index = {label: i for i, label in enumerate(pool.labels)}
    test = evaluate_answers(
        answers, np.array([index[e.label] for e in examples], dtype=np.int64), pool.labels
    )
    code = provenance.code_version()
    code["versions"] = code["versions"] | {"openai": version("openai")}
    device = {"kind": "server", "name": next((r.model for r in replies if r.model), None)}
    small_real = {
        "sha256": pool.small.sha256,
        "n": len(pool.small.examples),
        "overlap": {"test": pool.overlap},
        "dropped": pool.excluded,  # never shown
    }
    record = {
        "format": FORMAT,
        "version": identity.VERSION,
        "kind": "prompt",
        "config": {key: value for key, value in asdict(settings).items() if key != "paths"},
        "labels": list(pool.labels),
        "data": {
            "small_real": small_real,
            "test": {"sha256": pool.test.sha256, "n": len(pool.test.examples), "overlap": {}, "dropped": 0},
        },
        "checkers": {"quality": None, "diversity": None},
        "epochs": [{"epoch": 1, "train_loss": None, "selection": None, "test": test}],
        "selected_epoch": 1,
        "guard_hits": 0,
        "seconds": dict.fromkeys(("prepare", "scores", "weights", "train"), 0.0)
        | {"evaluate": round(time.perf_counter() - clock, 3)},
        "answers": {method: counts[method] for method in METHODS},
        "tokens": {"prompt": journal.prompt_tokens, "completion": journal.completion_tokens},
        "cost_usd": requests.spent,
        "provenance": code
        | {"device": device, "threads": None}
        | {"argv": provenance.command(), "started": started, "finished": provenance.utc_now()},
    }
    return _Row(record, answer_table(examples, answers, pool.labels))


def read_answer(reply: Reply, prompts: PromptBuilder) -> Answer:
    """A reply as a prediction: by log-probabilities of the labels' words where it has any, else by parsing."""
    log_probs = parsing.label_log_probs(reply.top, prompts.words)
    if log_probs is not None:
        return Answer(int(np.argmax(log_probs)), log_probs, METHODS[0])
    label = parsing.parse_label(reply.text, prompts.words)
    if label is None:
        return Answer(-1, None, METHODS[2])
    return Answer(prompts.labels.index(label), None, METHODS[1])


def evaluate_answers(
    answers: Sequence[Answer], targets: np.ndarray, labels: tuple[str, ...]
) -> dict[str, Any]:
    """The metrics of a row; nll and ece are null unless every answer has log-probabilities.

    Args:
        answers: [n].
        targets: Index of each example's label, [n].
        labels: The names of the labels.
    """
    if all(a.log_probs is not None for a in answers):
        return metrics.evaluate(np.array([a.log_probs for a in answers], dtype=np.float32), targets, labels)
    return metrics.judged(np.array([a.prediction for a in answers], dtype=np.int64), targets, labels)


def answer_table(examples: Examples, answers: Sequence[Answer], labels: tuple[str, ...]) -> Any:
    """The row's Parquet: test, with null where there is no prediction or no log-probability."""
    import pyarrow as pa

    out = PredictionTable("test", examples, labels).at_epoch(1, None, None)
    predictions = pa.array(
        [labels[a.prediction] if a.prediction >= 0 else None for a in answers], pa.string()
    )
    log_probs = pa.array([a.log_probs for a in answers], pa.list_(pa.float32()))
    out = out.set_column(out.schema.get_field_index("prediction"), "prediction", predictions)
    return out.set_column(out.schema.get_field_index("log_probs"), "log_probs", log_probs)
