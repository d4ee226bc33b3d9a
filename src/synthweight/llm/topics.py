"""The list of topics that the approach `topic` has the LLM make first."""

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..errors import UserError
from . import parsing
from .few_shot import Stream
from .prompts import PromptBuilder
from .request_pool import RequestPool

if TYPE_CHECKING:
    from ..config.llm_schema import Generate

OUTCOMES = ("kept", "doubled", "empty", "prose")


@dataclass(frozen=True)
class Topics:
    """The topics, in the order in which they came, and how many replies had which outcome."""

    names: tuple[str, ...]
    counts: dict[str, int]

    def draw(self, entropy: list[int]) -> str:
        """One topic, drawn by this entropy; empty where there are none."""
        return self.names[np.random.default_rng(entropy).integers(len(self.names))] if self.names else ""


def request_topics(settings: "Generate", prompts: PromptBuilder, requests: RequestPool) -> Topics:
    """Requests lists of topics until there are `approach.topics` different ones.

    What replies lack is requested again, up to `attempts` times; the topics of all replies are united. No
    topics where the approach has none, or where the budget ended.

    Raises:
        UserError: There are too few different topics after all attempts; what `RequestPool.fetch` raises.
    """
    approach = settings.approach
    names: dict[str, str] = {}  # by its casefolded form
    counts: Counter[str] = Counter(dict.fromkeys(OUTCOMES, 0))
    opening = str(approach.topics_base).rpartition("\n")[2] if settings.generator.api == "completions" else ""
    for attempt in range(settings.attempts if approach.topics else 0):
        key = f"topics:{attempt}"
        entropy = [settings.seed, Stream.TOPICS, attempt]
        if key not in requests.journal.replies:
            seed = int(np.random.default_rng(entropy).integers(2**31))
            requests.fetch([prompts.list_topics(approach, key, seed)], 1)
        if (reply := requests.journal.replies.get(key)) is None:
            return Topics((), dict(counts))
        found = parsing.parse_topics(reply.text, opening)
        known = len(names)
        for topic in found or ():
            names.setdefault(topic.casefold(), topic)
        if not found:
            counts["prose" if found is None else "empty"] += 1
        else:
            counts["kept" if len(names) - known == len(found) else "doubled"] += 1
        if len(names) >= approach.topics:
            break
    if len(names) < approach.topics:
        listed = ", ".join(f"{n} {outcome}" for outcome, n in counts.items() if n)
        raise UserError(
            f"approach.topics={approach.topics}: {settings.attempts} replies have {len(names)} different topics "
            f"({listed}): lower approach.topics, raise attempts, or name another model"
        )
    return Topics(tuple(names.values())[: approach.topics], dict(counts))
