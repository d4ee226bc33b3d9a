"""The data card: a generated set in figures (card.json) and in words (README.md)."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..data import benchmarks
from ..data.examples import Example, overlap_key
from ..errors import UserError

if TYPE_CHECKING:
    from ..config.llm_schema import Generate


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
    length, real = data["words"], data["real"]
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
    if data["embeddings"]:
        lines.append(
            f"- **Embeddings** ({card['encoder']}): mean distance of two examples {data['embeddings']['distance']}, Vendi "
            f"score {data['embeddings']['vendi']}; to the nearest example of D_P' {real['to_real']} (within D_P' "
            f"{real['within_real']}), from D_P' {real['from_real']}."
        )
    lines += [
        f"- **Diversity**: distinct-1 {data['distinct_1']}, distinct-2 {data['distinct_2']}, distinct-3 {data['distinct_3']}, "
        f"self-BLEU-4 {data['self_bleu_4']} (0 = no text shares words with another); {data['vocabulary']} different words, "
        f"{data['duplicates']['near']} near-duplicates.",
        f"- **Beside D_P'**: {real['vocabulary_real']} of its different words are in D_P' too, {real['vocabulary_covered']} of "
        "those of D_P' are in it.",
        f"- **Texts that equal a real one**: {overlaps}. A run drops those of D_P' and test and counts them in its row.",
        f"- **Content**: data hash `{card['sha256']}`; every reply lies in `journal.jsonl`.",
        "",
        "The labels are those that were requested: whether they are right for the texts was not checked.",
        "",
    ]
    return "\n".join(lines)
