"""LLM-written data, top to bottom: pool, requests, replies, judgement, file, card.

A request is fixed by seed, place and try alone, and replies are judged by place, a round of tries at a time: so the file
does not depend on the order in which replies arrive, and a killed run asks only for what is missing.
"""

import json
from collections import Counter
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import filelock
import numpy as np

from ..atomic_io import atomic_path
from ..data.examples import Example, data_hash, write_jsonl
from ..errors import UserError
from . import data_card, few_shot
from .filtering import OUTCOMES, ReplyFilter
from .journal import Journal
from .prompts import PromptBuilder, Request
from .request_pool import RequestPool

if TYPE_CHECKING:
    from ..config.llm_schema import Generate, Generator
    from .few_shot import Pool

FILE, JOURNAL, CARD, PAGE = "synthetic.jsonl", "journal.jsonl", "card.json", "README.md"


@dataclass(frozen=True)
class Outcome:
    """What came of it: the file, how many examples it has, and how many requests this call made."""

    path: Path
    kept: int
    asked: int
    most_in_flight: int


def generate(settings: "Generate") -> Outcome:
    """Writes `<out>/synthetic.jsonl` with its card, asking for what the journal there lacks.

    Raises:
        UserError: bad input; a server that refuses or stays silent; a budget that is used up (what there is was written).
    """
    pool = few_shot.pool(settings)
    wording = PromptBuilder(settings.generator, pool)
    judge = ReplyFilter(settings, pool, wording)
    out = Path(settings.out)
    refuse_strangers(out, settings)
    journal = Journal(out / JOURNAL, identity(settings, pool))
    title = f"{settings.dataset.name} by {settings.generator.name}"
    asker = RequestPool(settings.generator, journal, title, settings.budget)
    out.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(out / ".lock")
    try:
        held = lock.acquire(timeout=0)
    except filelock.Timeout as error:
        raise UserError(f"out={out}: another process is writing there: wait for it, or name another out=") from error
    with held:  # not the lock: that would hold it twice and let go once
        journal.load()
        fates = fill(settings, pool, wording, judge, asker)
        kept = [judge.kept[place] for place in sorted(judge.kept)]
        write(out, settings, pool, kept, fates, journal)
    counted = ", ".join(f"{n} {fate}" for fate, n in fates.items() if n)
    print(
        f"{title}: {len(kept)} of {settings.n} examples in {out / FILE} ({counted or 'no reply'}; asked {asker.asked} now)",
        flush=True,
    )
    if asker.stopped == "budget":
        raise asker.over_budget()
    if len(kept) < settings.n:
        print(f"{title}: {settings.n - len(kept)} given up after {settings.attempts} tries each: raise attempts=", flush=True)
    return Outcome(out / FILE, len(kept), asker.asked, asker.most_in_flight)


def fill(settings: "Generate", pool: "Pool", wording: PromptBuilder, judge: ReplyFilter, asker: RequestPool) -> Counter[str]:
    """Round after round, until every place has its example, or its tries or the budget are used up. Returns the fates."""
    labels = labels_of(settings, pool)
    fates: Counter[str] = Counter(dict.fromkeys(OUTCOMES, 0))
    open_places = list(range(settings.n))
    for attempt in range(settings.attempts):
        missing = [place for place in open_places if key(place, attempt) not in asker.journal.replies]
        if missing:
            asker.ask((request(settings, pool, wording, labels, place, attempt) for place in missing), len(missing))
        for place in open_places:
            reply = asker.journal.replies.get(key(place, attempt))
            if reply is not None:
                fates[judge.judge(place, labels[place], reply)] += 1
        open_places = [place for place in open_places if place not in judge.kept]
        if asker.stopped or not open_places:
            break
    return fates


def key(place: int, attempt: int) -> str:
    return f"{place}:{attempt}"


def request(settings: "Generate", pool: "Pool", wording: PromptBuilder, labels: list[str], place: int, attempt: int) -> Request:
    """The request of a place and a try: its examples and its seed are drawn from them alone."""
    entropy = [settings.seed, few_shot.WRITING, place, attempt]
    examples = pool.of_label(labels[place], settings.shots, entropy)
    seed = int(np.random.default_rng([*entropy, 1]).integers(2**31))
    return wording.write(key(place, attempt), labels[place], examples, seed)


def labels_of(settings: "Generate", pool: "Pool") -> list[str]:
    """The label of each place: the one that is furthest behind its share, so that every prefix has the distribution."""
    even = {label: 1 / len(pool.labels) for label in pool.labels}
    shares = even if settings.distribution == "balanced" else pool.shares()
    given = dict.fromkeys(shares, 0)
    out = []
    for place in range(settings.n):
        label = max(shares, key=lambda name: round(shares[name] * (place + 1) - given[name], 9))
        given[label] += 1
        out.append(label)
    return out


def identity(settings: "Generate", pool: "Pool") -> dict[str, Any]:
    """What makes two outputs the same: never where the server is, how fast it is asked, what it costs, or n."""
    return {
        "dataset": settings.dataset.name,
        "small_real": pool.small.sha256,
        "test": pool.test.sha256,
        "generator": asked_of(settings.generator)
        | {key: getattr(settings.generator, key) for key in ("structured", "temperature", "top_p", "max_tokens")},
        "prompt": template_hash(settings.generator),
        "shots": settings.shots,
        "seed": settings.seed,
        "distribution": settings.distribution,
        "max_chars": settings.max_chars,
        "near_duplicates": settings.near_duplicates,
    }


def asked_of(generator: "Generator") -> dict[str, Any]:
    """Who answers, and through what."""
    return {key: getattr(generator, key) for key in ("model", "api", "seeded")}


def template_hash(generator: "Generator") -> str:
    """SHA-256 of the template's content; its name does not count."""
    content = {key: value for key, value in asdict(generator.prompt).items() if key != "name"}
    return sha256(json.dumps(content, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def refuse_strangers(out: Path, settings: "Generate") -> None:
    """An `out` that this command did not write, or that holds more than is asked for. Raises UserError."""
    if (out / FILE).exists() and not (out / JOURNAL).is_file():
        raise UserError(f"out={out}: has a {FILE} and no {JOURNAL}: it is none of this command's; name another out=")
    if (out / CARD).is_file():
        there = json.loads((out / CARD).read_text(encoding="utf-8"))["n"]
        if settings.n < there:
            raise UserError(
                f"out={out}: holds the output of another configuration (n is {there} there, {settings.n} here): name another out="
            )


def write(out: Path, settings: "Generate", pool: "Pool", kept: list[Example], fates: Counter[str], journal: Journal) -> None:
    """The file and its card, each written beside and moved into place."""
    rows = [{k: v for k, v in asdict(e).items() if k in ("id", "text", "text_pair", "label") and v is not None} for e in kept]
    write_jsonl(out / FILE, rows)
    g = settings.generator
    replies = list(journal.replies.values())
    described = {
        "dataset": settings.dataset.name,
        "generator": asdict(g) | {"host": g.host, "served_as": next((r.model for r in replies if r.model), None)},
        "prompt": {"name": g.prompt.name, "sha256": template_hash(g)},
        "shots": settings.shots,
        "seed": settings.seed,
        "distribution": settings.distribution,
        "n": settings.n,
        "complete": len(kept) == settings.n,
        "started": min((r.when for r in replies), default=None),
        "finished": max((r.when for r in replies), default=None),
        "replies": sum(fates.values()),
        "counts": dict(fates),
        "tokens": {"prompt": journal.prompt_tokens, "completion": journal.completion_tokens},
        "cost_usd": g.cost(journal.prompt_tokens, journal.completion_tokens),
        "data": data_card.figures(kept),
        "overlap": data_card.overlap(settings, kept),
        "not_shown": pool.hidden,
        "sha256": data_hash(kept),
    }
    for name, text in ((CARD, json.dumps(described, indent=1, ensure_ascii=False) + "\n"), (PAGE, data_card.page(described))):
        with atomic_path(out / name) as part:
            part.write_text(text, encoding="utf-8")
