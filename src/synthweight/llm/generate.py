"""LLM-written data from top to bottom: examples to show, requests, replies, outcomes, file, card.

A request is fixed by seed, index and attempt alone, and replies are judged by index, one attempt after the
other: so the file does not depend on the order in which replies arrive, and a killed command sends only what
is missing.
"""

import json
import logging
from collections import Counter
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import filelock
import numpy as np

from ..atomic_io import atomic_path
from ..config.bind import load_choice
from ..config.llm_schema import APPROACH_FIELDS
from ..data.examples import Example, data_hash, write_jsonl
from ..errors import UserError
from ..models import pretrained
from . import data_card, few_shot
from .describe import describe_examples, embed_sets
from .filtering import OUTCOMES, ReplyFilter
from .journal import Journal
from .prompts import PromptBuilder, Request
from .request_pool import RequestPool
from .topics import Topics, request_topics

if TYPE_CHECKING:
    from ..config.llm_schema import Generate, Generator
    from .few_shot import ExamplePool

logger = logging.getLogger(__name__)

MAX_LENGTH = 128  # tokens of a text that are embedded for the card
FILE, JOURNAL, CARD, PAGE = "synthetic.jsonl", "journal.jsonl", "card.json", "README.md"


@dataclass(frozen=True)
class Generated:
    """What came of a call: the file, how many examples it has, how many requests were sent, and how many at
    once.
    """

    path: Path
    kept: int
    sent: int
    most_in_flight: int


def generate(settings: "Generate") -> Generated:
    """Writes `<out>/synthetic.jsonl` with its card, and sends the requests whose replies the journal there
    lacks.

    Args:
        settings: How many examples, of what, by which model, and where to.

    Raises:
        UserError: Bad input; a server that refuses or stays silent; a budget that is used up (what there is
            was written).
    """
    if settings.embed is not None:  # refused before any request
        pretrained.locate(load_choice("model", settings.embed))
    pool = few_shot.load_pool(settings)
    prompts = PromptBuilder(settings.generator, pool)
    replies = ReplyFilter(settings, pool, prompts)
    out = Path(settings.out)
    check_output_folder(out, settings)
    journal = Journal(out / JOURNAL, output_settings(settings, pool))
    title = f"{settings.dataset.name} by {settings.generator.name}"
    requests = RequestPool(settings.generator, journal, title, settings.budget)
    out.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(out / ".lock")
    try:
        acquired = lock.acquire(timeout=0)
    except filelock.Timeout as error:
        raise UserError(
            f"out={out}: another process is writing there: wait for it, or name another out="
        ) from error
    with acquired:  # not `lock`, which would be acquired twice and released once
        journal.load()
        topics = request_topics(settings, prompts, requests)
        replied, outcomes = fill_indices(settings, pool, prompts, topics, replies, requests)
        kept = [replies.kept[index] for index in sorted(replies.kept)]
        write_output(out, settings, pool, topics, kept, replied, outcomes, journal)
    counted = ", ".join(f"{n} {outcome}" for outcome, n in outcomes.items() if n) or "no reply"
    total = f"{len(kept)} of {settings.n} examples in {out / FILE}"
    logger.info("%s: %s (%s; %d requests sent now)", title, total, counted, requests.sent)
    if requests.stopped == "budget":
        raise requests.over_budget()
    if len(kept) < settings.n:
        logger.warning(
            "%s: %d examples were given up after %d attempts each: raise attempts=",
            title, settings.n - len(kept), settings.attempts,
        )  # fmt: skip
    return Generated(out / FILE, len(kept), requests.sent, requests.most_in_flight)


def fill_indices(
    settings: "Generate",
    pool: "ExamplePool",
    prompts: PromptBuilder,
    topics: Topics,
    replies: ReplyFilter,
    requests: RequestPool,
) -> tuple[int, Counter[str]]:
    """Sends requests until every index has its example, or its attempts or the budget are used up.

    Args:
        settings: Of the generation.
        pool: The examples that may be shown.
        prompts: Puts them into words.
        topics: What examples are about, where the approach has topics.
        replies: Judges the replies, and keeps the examples.
        requests: Sends the requests.

    Returns:
        The number of replies, and how many of their examples had which outcome.
    """
    labels = assign_labels(settings, pool)
    replied, outcomes = 0, Counter(dict.fromkeys(OUTCOMES, 0))
    batches = batch_indices(labels, settings.per_request)
    for attempt in range(0 if requests.stopped else settings.attempts):
        missing = {first: [i for i in batch if i not in replies.kept] for first, batch in batches.items()}
        missing = {first: indices for first, indices in missing.items() if indices}
        unsent = [first for first in missing if request_key(first, attempt) not in requests.journal.replies]
        requests.fetch(
            (
                build_request(
                    settings, pool, prompts, labels[first], first, attempt, len(missing[first]), topics
                )
                for first in unsent
            ),
            len(unsent),
        )
        for first, indices in missing.items():
            reply = requests.journal.replies.get(request_key(first, attempt))
            if reply is not None:
                replied += 1
                outcomes.update(replies.outcomes(indices, labels[first], reply))
        if requests.stopped or len(replies.kept) == settings.n:
            break
    return replied, outcomes


def batch_indices(labels: list[str], size: int) -> dict[int, list[int]]:
    """The indices of one label that are requested together, at most `size`, by the first of them."""
    batches: dict[int, list[int]] = {}
    open_batch: dict[str, int] = {}
    for index, label in enumerate(labels):
        first = open_batch.get(label)
        if first is None or len(batches[first]) == size:
            first = open_batch[label] = index
            batches[first] = []
        batches[first].append(index)
    return batches


def request_key(index: int, attempt: int) -> str:
    """The key of a request in the journal."""
    return f"{index}:{attempt}"


def build_request(
    settings: "Generate",
    pool: "ExamplePool",
    prompts: PromptBuilder,
    label: str,
    index: int,
    attempt: int,
    n: int,
    topics: Topics,
) -> Request:
    """The request for n examples of one label.

    Its shown examples, topic and seed are drawn from its first index, the attempt and the seed alone.
    """
    entropy = [settings.seed, few_shot.Stream.WRITING, index, attempt]
    examples = pool.draw(label, settings.shots, entropy)
    seed = int(np.random.default_rng([*entropy, 1]).integers(2**31))
    topic = topics.draw([*entropy, 2])
    key = request_key(index, attempt)
    return prompts.write(settings.approach, key, label, examples, seed, n, topic)


def assign_labels(settings: "Generate", pool: "ExamplePool") -> list[str]:
    """The label of each index: the one that is furthest behind its share, so that every prefix has the
    distribution.
    """
    even = {label: 1 / len(pool.labels) for label in pool.labels}
    shares = even if settings.distribution == "balanced" else pool.shares()
    given = dict.fromkeys(shares, 0)
    out = []
    for index in range(settings.n):
        label = max(shares, key=lambda name: round(shares[name] * (index + 1) - given[name], 9))
        given[label] += 1
        out.append(label)
    return out


def output_settings(settings: "Generate", pool: "ExamplePool") -> dict[str, Any]:
    """What makes two outputs the same: never where the server is, how fast it is used, what it costs, or n."""
    sampling = ("structured", "temperature", "top_p", "max_tokens")
    return {
        "dataset": settings.dataset.name,
        "small_real": pool.small.sha256,
        "test": pool.test.sha256,
        "generator": model_settings(settings.generator)
        | {key: getattr(settings.generator, key) for key in sampling},
        "approach": settings.approach.name,
        "topics": settings.approach.topics,
        "prompt": prompts_hash(settings),
        "shots": settings.shots,
        "per_request": settings.per_request,
        "seed": settings.seed,
        "distribution": settings.distribution,
        "max_chars": settings.max_chars,
        "near_duplicates": settings.near_duplicates,
    }


def model_settings(generator: "Generator") -> dict[str, Any]:
    """Which model replies, and through which interface."""
    return {key: getattr(generator, key) for key in ("model", "api", "seeded")}


def prompts_hash(settings: "Generate") -> str:
    """SHA-256 of all that requests are made of, without names."""
    read = ("task", "words", "example", "new", "form", "new_many", "form_many")
    texts = {key: getattr(settings.generator.prompt, key) for key in read}
    return content_hash(texts | {key: getattr(settings.approach, key) for key in APPROACH_FIELDS})


def content_hash(content: dict[str, Any]) -> str:
    """SHA-256 of settings as sorted JSON."""
    return sha256(json.dumps(content, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def check_output_folder(out: Path, settings: "Generate") -> None:
    """Refuses a folder that this command did not write, or that holds more examples than are requested.

    Raises:
        UserError: Naming the folder.
    """
    if (out / FILE).exists() and not (out / JOURNAL).is_file():
        raise UserError(
            f"out={out}: has a {FILE} and no {JOURNAL}: this command did not write it; name another out="
        )
    if (out / CARD).is_file():
        n = json.loads((out / CARD).read_text(encoding="utf-8"))["n"]
        if settings.n < n:
            raise UserError(
                f"out={out}: holds the output of another configuration (n is {n} there, {settings.n} here): name another out="
            )


def write_output(
    out: Path,
    settings: "Generate",
    pool: "ExamplePool",
    topics: Topics,
    kept: list[Example],
    replied: int,
    outcomes: Counter[str],
    journal: Journal,
) -> None:
    """Writes the file and its card, each whole or not at all.

    Args:
        out: The folder.
        settings: Of the generation.
        pool: The examples that may be shown.
        topics: What examples are about, where the approach has topics.
        kept: The examples, in the order of the file.
        replied: How many replies there are.
        outcomes: How many of their examples had which outcome.
        journal: All replies.
    """
    fields = ("id", "text", "text_pair", "label")
    write_jsonl(
        out / FILE, ({k: v for k, v in asdict(e).items() if k in fields and v is not None} for e in kept)
    )
    real, vectors = pool.small.examples, None
    if settings.embed is not None and kept:
        vectors = embed_sets(load_choice("model", settings.embed), (kept, real), MAX_LENGTH)
    g, replies = settings.generator, list(journal.replies.values())
    card = {
        "dataset": settings.dataset.name,
        "generator": asdict(g)
        | {"host": g.host, "served_as": next((r.model for r in replies if r.model), None)},
        "approach": asdict(settings.approach),
        "prompt": {"name": g.prompt.name, "sha256": prompts_hash(settings)},
        "topics": list(topics.names),
        "topic_replies": topics.counts,
        "shots": settings.shots,
        "per_request": settings.per_request,
        "seed": settings.seed,
        "distribution": settings.distribution,
        "n": settings.n,
        "complete": len(kept) == settings.n,
        "started": min((r.when for r in replies), default=None),
        "finished": max((r.when for r in replies), default=None),
        "replies": replied,
        "counts": dict(outcomes),
        "tokens": {"prompt": journal.prompt_tokens, "completion": journal.completion_tokens},
        "cost_usd": g.cost(journal.prompt_tokens, journal.completion_tokens),
        "data": describe_examples(kept, real, vectors).as_dict(),
        "encoder": settings.embed,
        "overlap": data_card.count_overlaps(settings, kept),
        "excluded": pool.excluded,
        "sha256": data_hash(kept),
    }
    as_json = json.dumps(card, indent=1, ensure_ascii=False) + "\n"
    for name, text in ((CARD, as_json), (PAGE, data_card.to_markdown(card))):
        with atomic_path(out / name) as part:
            part.write_text(text, encoding="utf-8")
