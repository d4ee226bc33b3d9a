"""The LLM itself as classifier on test, few-shot: a row like any other, with no training in it."""

import shlex
import time
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
from .generate import asked_of, template_hash
from .journal import Journal, Reply
from .prompts import PromptBuilder
from .request_pool import RequestPool

if TYPE_CHECKING:
    from ..config.llm_schema import Prompt
    from .few_shot import Pool

HOW = ("log-probabilities", "parsing", "unparseable")


@dataclass(frozen=True)
class Answer:
    """What a reply comes to: the label's position (−1: none), log p of all labels where the server gave them, and how."""

    prediction: int
    log_probs: list[float] | None
    how: str


def identify(settings: "Prompt") -> "Identity[Prompt]":
    """What names a few-shot classification: who is asked what, with which shots, about which data. Raises UserError."""
    read = {name: split.sha256 for name, split in sources.load_splits(settings).items()}
    named = {
        "command": "prompt",
        "dataset": {"name": settings.dataset.name},
        "generator": {key: value for key, value in asked_of(settings.generator).items() if key != "seeded"}
        | {"logprobs": settings.generator.logprobs, "greedy": settings.generator.temperature is not None},
        "prompt": template_hash(settings.generator),
        "shots": settings.shots,
        "n": settings.n,
        "seed": settings.seed,
    }
    return Identity(run=settings, settings=identity.without_first_values(named), data=read, checkers={})


def describe(settings: "Prompt") -> str:
    """A few-shot classification in a few words."""
    return f"{settings.dataset.name} prompt {settings.generator.model} {settings.shots} shots seed {settings.seed}"


def classify(settings: "Prompt", progress: str = "", wait: bool = True) -> str:
    """Asks for the label of every test example and places the row; does nothing where the row is already. Returns its id.

    Raises:
        UserError: bad input; a server that refuses or stays silent: what was answered is kept, the same command goes on.
        RunLockedError: another process holds its lock and `wait` is False.
    """
    who = identify(settings)
    store = Store(settings.paths.outputs)
    name = progress + describe(settings)
    if store.exists(who.id):
        print(f"{name}: done already ({who.id}), nothing to do", flush=True)
        return who.id
    pool = few_shot.pool(settings)
    wording = PromptBuilder(settings.generator, pool)
    examples = chosen(settings, pool)
    journal = Journal(store.run_folder(who.id) / "journal.jsonl", {**who.settings, "data": who.data})
    asker = RequestPool(settings.generator, journal, name)
    store.prepare()
    with store.lock(who.id, wait):
        if store.exists(who.id):
            return who.id
        try:
            work(settings, who, store, name, pool, wording, examples, asker)
            store.clear_failure(who.id)
        except Exception as error:
            if not disk_full(error):
                store.record_failure(who.id, error, shlex.join(provenance.command()))
            raise
    return who.id


def chosen(settings: "Prompt", pool: "Pool") -> Examples:
    """The test examples to classify: all, or a stratified and nested subset that is the same for every seed."""
    test = pool.test.examples
    if settings.n is not None and settings.n > len(test):
        raise UserError(f"n={settings.n}: test has {len(test)} examples")
    return splits.nested_subset(test, settings.n, pool.test.sha256, seed=0)


def work(
    settings: "Prompt", who: "Identity[Prompt]", store: Store, name: str, pool: "Pool", wording: PromptBuilder,
    examples: Examples, asker: RequestPool,
) -> None:  # fmt: skip
    """The asking itself, and the row."""
    started, clock = provenance.utc_now(), time.perf_counter()
    asker.journal.load()
    shown = pool.of_each_label(settings.shots, settings.seed)
    asker.ask((wording.classify(e.id, e, shown) for e in examples), len(examples) - len(asker.journal.replies))
    replies = [asker.journal.replies[e.id] for e in examples]
    answers = [read(reply, wording) for reply in replies]
    how = {key: sum(a.how == key for a in answers) for key in HOW}
    position = {label: i for i, label in enumerate(pool.labels)}
    test = measure(answers, np.array([position[e.label] for e in examples], dtype=np.int64), pool.labels)
    journal = asker.journal
    code = provenance.code_version()
    code = code | {"versions": code["versions"] | {"openai": version("openai")}}
    record = {
        "format": FORMAT,
        "id": who.id,
        "version": identity.VERSION,
        "kind": "prompt",
        "config": {key: value for key, value in asdict(settings).items() if key != "paths"},
        "labels": list(pool.labels),
        "data": {
            "small_real": split(pool.small.sha256, len(pool.small.examples), {"test": pool.overlap}, pool.hidden),
            "test": split(pool.test.sha256, len(pool.test.examples), {}, 0),
        },
        "checkers": {"quality": None, "diversity": None},
        "epochs": [{"epoch": 1, "train_loss": None, "selection": None, "test": test}],
        "selected_epoch": 1,
        "guard_hits": 0,
        "seconds": dict.fromkeys(("prepare", "scores", "weights", "train"), 0.0)
        | {"evaluate": round(time.perf_counter() - clock, 3)},
        "answers": how,
        "tokens": {"prompt": journal.prompt_tokens, "completion": journal.completion_tokens},
        "cost_usd": asker.spent,
        "provenance": code
        | {"device": {"kind": "server", "name": next((r.model for r in replies if r.model), None)}, "threads": None}
        | {"argv": provenance.command(), "started": started, "finished": provenance.utc_now()},
    }
    store.write_row(record, table(examples, answers, pool.labels))
    counted = ", ".join(f"{n} by {key}" if key != "unparseable" else f"{n} {key} (counted as wrong)" for key, n in how.items())
    accuracy, f1 = test["accuracy"], test["macro_f1"]
    print(f"{name}: test accuracy {accuracy:.1%}, macro F1 {f1:.1%}; {counted} ({who.id})", flush=True)


def split(sha256: str, n: int, overlap: dict[str, int], dropped: int) -> dict[str, Any]:
    return {"sha256": sha256, "n": n, "overlap": overlap, "dropped": dropped}


def read(reply: Reply, wording: PromptBuilder) -> Answer:
    """By log-probabilities where the reply carries any for the labels' words, else by parsing."""
    scored = parsing.label_log_probs(reply.top, wording.words)
    if scored is not None:
        return Answer(int(np.argmax(scored)), scored, HOW[0])
    label = parsing.parse_label(reply.text, wording.words)
    return Answer(-1, None, HOW[2]) if label is None else Answer(wording.labels.index(label), None, HOW[1])


def measure(answers: list[Answer], targets: np.ndarray, labels: tuple[str, ...]) -> dict[str, Any]:
    """The metrics of a row; nll and ece are null unless every answer has log-probabilities."""
    if all(a.log_probs is not None for a in answers):
        return metrics.evaluate(np.array([a.log_probs for a in answers], dtype=np.float32), targets, labels)
    return metrics.judged(np.array([a.prediction for a in answers], dtype=np.int64), targets, labels)


def table(examples: Examples, answers: list[Answer], labels: tuple[str, ...]) -> Any:
    """The row's Parquet: test, with null where there is no prediction or no log-probability."""
    import pyarrow as pa

    out = PredictionTable("test", examples, labels).at_epoch(1, None, None)
    said = pa.array([labels[a.prediction] if a.prediction >= 0 else None for a in answers], pa.string())
    scored = pa.array([a.log_probs for a in answers], pa.list_(pa.float32()))
    out = out.set_column(out.schema.get_field_index("prediction"), "prediction", said)
    return out.set_column(out.schema.get_field_index("log_probs"), "log_probs", scored)
