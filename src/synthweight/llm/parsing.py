"""What a reply says: an example, or a label. Tolerant of the wrapping, never of the content."""

import json
import math
import re
from dataclasses import dataclass
from typing import Any

from . import templates

THOUGHT = re.compile(r"<think>.*?(</think>|\Z)", re.DOTALL)
QUOTES = "\"'`“”‘’*_.,:;()[]{}▁Ġ \t\n"


@dataclass(frozen=True)
class Written:
    """An example as a reply has it; `label` is None where it says none."""

    text: str
    text_pair: str | None
    label: str | None


def written(reply: str, opening: str, example: str, pairs: bool) -> Written | None:
    """An example out of a reply: a JSON object anywhere in it, else the template's own lines. None = malformed.

    Args:
        opening: of a completion, which the reply goes on from. example: the template.
    """
    reply = THOUGHT.sub("", reply)
    found = None if opening else json_object(reply)
    if found is None:
        whole = opening + (reply if reply[:1] in ("", " ", "\n") or not opening else f" {reply}")
        match = templates.pattern(example).search(whole)
        found = match.groupdict() if match else {}
    text, pair, label = (found.get(key) for key in ("text", "text_pair", "label"))
    if not isinstance(text, str) or not text.strip() or (label is not None and not isinstance(label, str)):
        return None
    if pairs and (not isinstance(pair, str) or not pair.strip()):
        return None
    return Written(text.strip(), pair.strip() if pairs and isinstance(pair, str) else None, label.strip() if label else None)


def json_object(reply: str) -> dict[str, Any] | None:
    """The first JSON object of a reply that has a text, whatever stands around it (prose, a code fence)."""
    start = reply.find("{")
    while start >= 0:
        try:
            found, _ = json.JSONDecoder(strict=False).raw_decode(reply, start)
        except json.JSONDecodeError:
            found = None
        if isinstance(found, dict) and "text" in found:
            return found
        start = reply.find("{", start + 1)
    return None


def named(answer: str, words: dict[str, str]) -> str | None:
    """The label that a word stands for; its own name counts too."""
    said = answer.strip(QUOTES).casefold()
    return next((label for label, word in words.items() if said in (word.casefold(), label.casefold())), None)


def answered(reply: str, words: dict[str, str]) -> str | None:
    """The label in a classification's reply: the word at its start, else the only one in it. None = unparseable."""
    text = THOUGHT.sub("", reply).strip(QUOTES).casefold()
    starting = [label for label, word in words.items() if re.match(rf"{re.escape(word.casefold())}(?!\w)", text)]
    if starting:
        return max(starting, key=lambda label: len(words[label]))
    inside = [label for label, word in words.items() if re.search(rf"(?<!\w){re.escape(word.casefold())}(?!\w)", text)]
    return inside[0] if len(inside) == 1 else None


def log_probs(top: dict[str, float] | None, words: dict[str, str]) -> list[float] | None:
    """log p of each label from the first token's most likely candidates, normalised over the labels.

    A token belongs to the one label whose word it begins. A label that none of them begins has at most the least
    probability given; half of it stands in. None where no label is begun, or tokens that several begin weigh more.
    """
    if not top:
        return None
    mass, unclear = dict.fromkeys(words, 0.0), 0.0
    for token, value in top.items():
        said = token.strip(QUOTES).casefold()
        begun = [label for label, word in words.items() if said and (word.casefold().startswith(said) or said == word.casefold())]
        if len(begun) == 1:
            mass[begun[0]] += math.exp(value)
        elif begun:
            unclear += math.exp(value)
    if sum(mass.values()) <= unclear or not any(mass.values()):
        return None
    least = 0.5 * math.exp(min(top.values()))
    floor = max(min(least, 0.5 * min(m for m in mass.values() if m)), 1e-30)
    filled = [m or floor for m in mass.values()]
    return [math.log(m / sum(filled)) for m in filled]
