"""The data card: a generated set in figures (card.json) and in words (README.md)."""

import math
from collections import Counter
from collections.abc import Sequence
from statistics import fmean, median
from typing import TYPE_CHECKING, Any

from ..data import benchmarks
from ..data.examples import Example, overlap_key
from ..errors import UserError

if TYPE_CHECKING:
    from ..config.llm_schema import Generate

Words = list[str]


def split_words(example: Example) -> Words:
    """The words of both texts, casefolded, by white space."""
    return f"{example.text} {example.text_pair or ''}".casefold().split()


def describe_examples(examples: Sequence[Example]) -> dict[str, Any]:
    """Labels, lengths and diversity of a set."""
    texts = [split_words(e) for e in examples]
    lengths = sorted(map(len, texts))
    words = None
    if lengths:
        words = {
            "mean": round(fmean(lengths), 2),
            "median": median(lengths),
            "p95": lengths[math.ceil(0.95 * len(lengths)) - 1],
        }
    return {
        "labels": dict(sorted(Counter(e.label for e in examples).items())),
        "words": words,
        "distinct_1": distinct_n(texts, 1),
        "distinct_2": distinct_n(texts, 2),
        "self_bleu_4": self_bleu(texts),
    }


def distinct_n(texts: Sequence[Words], n: int) -> float | None:
    """Distinct-n: different n-grams over all n-grams of the set, 0 to 1 (Li et al. 2016). It falls as a set
    grows.
    """
    found = [gram for text in texts for gram in n_grams(text, n)]
    return round(len(set(found)) / len(found), 4) if found else None


def n_grams(text: Words, n: int) -> list[tuple[str, ...]]:
    """The n-grams of a text, in its order."""
    return [tuple(text[i : i + n]) for i in range(len(text) - n + 1)]


def self_bleu(texts: Sequence[Words], order: int = 4) -> float | None:
    """Self-BLEU-4: the mean BLEU of each text with all others as references, 0 (diverse) to 1 (Zhu et al.
    2018).

    BLEU = BP · exp(mean_n log p_n), n = 1…4, p_n = clipped matches / n-grams, orders that a text is too short
    for left out, a zero replaced by 1/(2·n-grams) as smoothing; BP = min(1, exp(1 − r/c)), r the closest
    other length.
    """
    if len(texts) < 2:
        return None
    counts = [[Counter(n_grams(text, n)) for text in texts] for n in range(1, order + 1)]
    highest: list[
        dict[tuple[str, ...], tuple[int, int, int]]
    ] = []  # n-gram → highest count, whose, the next highest
    for of_order in counts:
        best: dict[tuple[str, ...], tuple[int, int, int]] = {}
        for i, counter in enumerate(of_order):
            for gram, count in counter.items():
                top, owner, second = best.get(gram, (0, -1, 0))
                best[gram] = (count, i, top) if count > top else (top, owner, max(second, count))
        highest.append(best)
    lengths = Counter(map(len, texts))
    scores = []
    for i, text in enumerate(texts):
        logs = []
        for of_order, best in zip(counts, highest, strict=True):
            total = sum(of_order[i].values())
            if total:
                others = {
                    gram: best[gram][2] if best[gram][1] == i else best[gram][0] for gram in of_order[i]
                }
                matches = sum(min(count, others[gram]) for gram, count in of_order[i].items())
                logs.append(math.log(matches / total if matches else 1 / (2 * total)))
        rest = [n for n, times in lengths.items() if times > (n == len(text))]
        closest = min(rest, key=lambda n: (abs(n - len(text)), n))
        penalty = min(1.0, math.exp(1 - closest / len(text))) if text else 0.0
        scores.append(penalty * math.exp(fmean(logs)) if logs else 0.0)
    return round(fmean(scores), 4)


def count_overlaps(settings: "Generate", examples: Sequence[Example]) -> dict[str, int | None]:
    """How many examples have the text of a real one, by split; None where the split is not available."""
    keys = [overlap_key(e) for e in examples]
    out: dict[str, int | None] = {}
    for split in ("small_real", "large_real", "test"):
        try:
            real = benchmarks.load_split(settings.dataset, split, settings.paths.data, settings.paths.cache)
        except UserError:
            out[split] = None
            continue
        real_keys = {overlap_key(e) for e in real.examples}
        out[split] = sum(key in real_keys for key in keys)
    return out


def to_markdown(card: dict[str, Any]) -> str:
    """The card as a page of Markdown."""
    g, data, n = card["generator"], card["data"], card["counts"]
    cost = "unknown" if card["cost_usd"] is None else f"${card['cost_usd']:.4f}"
    overlaps = ", ".join(
        f"{split} {'not available' if k is None else k}" for split, k in card["overlap"].items()
    )
    length = data["words"]
    shown = f"{card['shots']} examples of the requested label from D_P', never a text of test"
    if not card["shots"]:
        shown = "no example was shown"
    if card["topics"]:
        came = ", ".join(f"{count} {outcome}" for outcome, count in card["topic_replies"].items() if count)
        shown += f"; {len(card['topics'])} topics ({came}): {', '.join(card['topics'])}"
    lines = [
        f"# {card['dataset']}: {n['kept']} texts by {g['model']}",
        "",
        f"Written by `{g['served_as'] or g['model']}` at {g['host']}, by `synthweight generate`, "
        f"{card['started']} to {card['finished']}."
        + ("" if card["complete"] else f" **Not complete**: {card['n']} were requested."),
        "",
        f"- **Approach**: `generator/approach={card['approach']['name']}`: {shown}.",
        f"- **Prompts**: `generator/prompt={card['prompt']['name']}` ({card['prompt']['sha256'][:12]}…), seed {card['seed']}; "
        f"temperature {g['temperature']}, top-p {g['top_p']}.",
        f"- **Replies**: {card['replies']}, of up to {card['per_request']} examples each: "
        + ", ".join(f"{count} {outcome}" for outcome, count in n.items() if count)
        + ".",
        f"- **Tokens**: {card['tokens']['prompt']:,} read, {card['tokens']['completion']:,} written; cost {cost}.",
        "- **Labels**: "
        + ", ".join(f"{label} {count}" for label, count in data["labels"].items())
        + f" ({card['distribution']}).",
    ]
    if length:
        lines.append(
            f"- **Length**: {length['mean']} words in the mean, median {length['median']}, 95 % below {length['p95'] + 1}."
        )
    lines += [
        f"- **Diversity**: distinct-1 {data['distinct_1']}, distinct-2 {data['distinct_2']}, self-BLEU-4 {data['self_bleu_4']} "
        "(0 = no text shares words with another).",
        f"- **Texts that equal a real one**: {overlaps}. A run drops those of D_P' and test and counts them in its row.",
        f"- **Content**: data hash `{card['sha256']}`; every reply lies in `journal.jsonl`.",
        "",
        "The labels are those that were requested: whether they are right for the texts was not checked.",
        "",
    ]
    return "\n".join(lines)
