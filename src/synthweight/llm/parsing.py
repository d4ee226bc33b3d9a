"""What a reply holds: an example, or a label.

Tolerant of how it is wrapped and spelt, never of what it says.
"""

import json
import math
import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from . import templates

THOUGHT = re.compile(r"<think>.*?(</think>|\Z)", re.DOTALL)
BLANKS_OF_TOKENS = "▁Ġ"  # how tokenizers write a space
ESCAPES = re.compile(r"(\\u[0-9a-fA-F]{4})+")
LIST_ITEM = re.compile(r"^[ \t]*(?:\d+[.)]|[-*•])[ \t]+(\S.*)$", re.MULTILINE)
LONGEST_TOPIC = 80  # characters; what is longer is a sentence
FIELDS = ("label", "text_pair", "text")
QUOTES = "\"'`“”„‟‘’‚«»「」『』"
LOOSE_FIELD = re.compile(
    rf"[{QUOTES}](?P<key>{'|'.join(FIELDS)})[{QUOTES}]\s*[:：]\s*[{QUOTES}](?P<value>.*?)[{QUOTES}]"
    rf"(?=\s*,\s*[{QUOTES}](?:{'|'.join(FIELDS)})[{QUOTES}]\s*[:：]|\s*,?\s*\}})",
    re.DOTALL | re.IGNORECASE,
)
OBJECT = re.compile(rf"\{{\s*[{QUOTES}](?:{'|'.join(FIELDS)})[{QUOTES}]\s*[:：]", re.IGNORECASE)
WRAPPING = " *_#>-([{"
LABEL_FIELD = re.compile(rf"label[{QUOTES}]?\s*[:：]")  # before a label: `Label: `, `{{"label": `
# Scripts that write no space between words, or attach endings to them: a label in them may touch other
# letters.
UNSPACED = ("CJK", "HIRAGANA", "KATAKANA", "HANGUL", "THAI", "LAO", "KHMER", "MYANMAR", "TIBETAN")


@dataclass(frozen=True)
class ParsedExample:
    """An example as a reply has it; `label` is None where it names none."""

    text: str
    text_pair: str | None
    label: str | None


def parse_examples(
    reply: str, opening: str, example: str, pairs: bool, n: int = 1, cut: bool = False
) -> list[ParsedExample | None]:
    """The examples of a reply: JSON objects anywhere in it, else the template's own lines.

    Args:
        reply: The text of the reply.
        opening: Of a plain completion: what it goes on from. Empty for a chat.
        example: The template of an example.
        pairs: Whether an example has two texts.
        n: How many were requested. Where that is one, what follows the first is not read.
        cut: Whether the reply ended at its limit of tokens.

    Returns:
        At least one element; None for an object that is half or malformed, or a reply without any. Of a
        completion that was cut, an example that nothing follows is half.
    """
    reply = THOUGHT.sub("", reply)
    found: list[dict[str, Any] | None] = [] if opening else list(find_json_objects(reply))
    if n == 1:
        found = next(([fields] for fields in found if fields is not None), [])
    if not found:
        whole = opening + (reply if reply[:1] in ("", " ", "\n") or not opening else f" {reply}")
        matches = list(templates.pattern(example).finditer(whole))[: None if n > 1 else 1]
        found = [match.groupdict() for match in matches]
        if cut and matches and "\n" not in whole[matches[-1].end() :]:
            found[-1] = None
    return [None if fields is None else _checked(fields, pairs) for fields in found] or [None]


def _checked(found: Mapping[str, Any], pairs: bool) -> ParsedExample | None:
    """An example of these fields; None where they are no example."""
    text, pair, label = (found.get(key) for key in ("text", "text_pair", "label"))
    if not isinstance(text, str) or not text.strip() or (label is not None and not isinstance(label, str)):
        return None
    if not pairs:
        pair = None
    elif not isinstance(pair, str) or not pair.strip():
        return None
    return ParsedExample(text.strip(), pair.strip() if pair else None, label.strip() if label else None)


def find_json_objects(reply: str) -> Iterator[dict[str, Any] | None]:
    """The JSON objects of a reply that have a text, whatever is around them (prose, a code fence, a list).

    Keys may be in capitals. An object that is not valid JSON is read too if its keys and values are in other
    quotes; where that fails, or it has no end, it is None.
    """
    start = reply.find("{")
    while start >= 0:
        after = start + 1
        try:
            found, end = json.JSONDecoder(strict=False).raw_decode(reply, start)
        except (ValueError, RecursionError):
            found = None
        if isinstance(found, dict):
            named = {str(key).strip().casefold().replace(" ", "_"): value for key, value in found.items()}
            if "text" in named:
                yield named
                after = end
        elif OBJECT.match(reply, start):
            following = OBJECT.search(reply, start + 1)
            after = following.start() if following else len(reply)
            fields = LOOSE_FIELD.finditer(reply, start, after)
            loose = {match["key"].casefold(): _unescaped(match["value"]) for match in fields}
            yield loose if "text" in loose else None
        start = reply.find("{", after)


def parse_topics(reply: str, opening: str) -> list[str] | None:
    """The topics of a reply: a JSON list of strings, else the items of a numbered or bulleted list.

    Args:
        reply: The text of the reply.
        opening: Of a plain completion: the last line that it goes on from. Empty for a chat.

    Returns:
        The topics in the order of the reply, equal ones too; None where there is no list.
    """
    reply = THOUGHT.sub("", reply)
    start = reply.find("[")
    while start >= 0:
        try:
            found, _ = json.JSONDecoder(strict=False).raw_decode(reply, start)
        except (ValueError, RecursionError):
            found = None
        if isinstance(found, list) and all(isinstance(item, str) for item in found):
            return [topic for item in found if (topic := _topic(item))]
        start = reply.find("[", start + 1)
    items = LIST_ITEM.findall(f"{opening}{reply}" if reply[:1] in ("", " ", "\n") else f"{opening} {reply}")
    return [topic for item in items if (topic := _topic(item))] if items else None


def _topic(item: str) -> str:
    """A topic without quotes and marks around it; empty where it is longer than a topic is."""
    topic = " ".join(item.strip().strip(QUOTES + " *_.,;:").split())
    return topic if len(topic) <= LONGEST_TOPIC else ""


def _unescaped(value: str) -> str:
    """A value with JSON's escapes read, where it has any that are valid."""
    quoted = re.sub(r'(?<!\\)"', r"\"", value)
    try:
        return str(json.loads(f'"{quoted}"', strict=False))
    except json.JSONDecodeError:
        return value


def match_label(answer: str, words: Mapping[str, str]) -> str | None:
    """The label that an answer is: by its word or its own name, whatever quotes and punctuation are around
    it.

    Args:
        answer: The label of a generated example, as the reply has it.
        words: The word of each label.
    """
    for form in (_plain, _unquoted, _bare):
        found = [
            label
            for label, word in words.items()
            if form(answer) and form(answer) in (form(word), form(label))
        ]
        if len(found) == 1:
            return found[0]
    return None


def parse_label(reply: str, words: Mapping[str, str]) -> str | None:
    """The label in a classification's reply: the word at its beginning, else the only one in it; None =
    unparseable.

    A word within a longer label's word is not counted: "very positive" is not "positive". Letters next to a
    word make it another word, except in scripts without spaces.

    Args:
        reply: The text of the reply.
        words: The word of each label.
    """
    text = _plain(ESCAPES.sub(lambda match: json.loads(f'"{match[0]}"'), THOUGHT.sub("", reply)))
    spans: dict[tuple[int, int], str] = {}
    for form in (_bare, _plain):  # where both are at one place, the label with its punctuation counts
        spans |= {
            (i, i + len(form(word))): label
            for label, word in words.items()
            for i in _starts(text, form(word))
        }
    outer = {span: label for span, label in spans.items() if not any(_within(span, other) for other in spans)}
    if outer:
        first = min(outer)
        before = text[: first[0]].strip(QUOTES + WRAPPING)
        if not before or LABEL_FIELD.fullmatch(before):
            return outer[first]
    return next(iter(outer.values())) if len(set(outer.values())) == 1 else None


def _plain(text: str) -> str:
    """For comparisons: NFKC, casefolded, white space as single spaces, none at the ends."""
    return " ".join(unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold()).split())


def _unquoted(text: str) -> str:
    """The same without quotes, full stops and marks of emphasis at its ends."""
    return _plain(text).strip(QUOTES + " .,:;*_")


def _bare(text: str) -> str:
    """The same without punctuation and signs at its ends."""
    plain = _plain(text)
    inner = [i for i, char in enumerate(plain) if unicodedata.category(char)[0] in "LMN"]
    return plain[inner[0] : inner[-1] + 1] if inner else plain


def _starts(text: str, word: str) -> Iterator[int]:
    """Where a word stands in a text as a word of its own."""
    start = text.find(word) if word else -1
    while start >= 0:
        end = start + len(word)
        before, after = text[start - 1 : start], text[end : end + 1]
        within_a_word = (_joins(before) and _joins(word[0])) or (_joins(after) and _joins(word[-1]))
        if not within_a_word and not (after and unicodedata.category(after)[0] == "M"):
            yield start
        start = text.find(word, start + 1)


def _joins(char: str) -> bool:
    """Whether a letter, mark or number belongs to the word of a letter next to it."""
    if not char or unicodedata.category(char)[0] not in "LMN":
        return char == "_"
    return not unicodedata.name(char, "").startswith(UNSPACED)


def _within(span: tuple[int, int], other: tuple[int, int]) -> bool:
    return span != other and other[0] <= span[0] and span[1] <= other[1]


def label_log_probs(top: Mapping[str, float] | None, words: Mapping[str, str]) -> list[float] | None:
    """log p of each label from the first token's most likely candidates, normalised over the labels.

    A token belongs to the one label whose word it begins. A label that none of them begins has at most the
    least probability given; half of it is used. None where no label is begun, or tokens that several begin
    weigh more.

    Args:
        top: Log-probability of each candidate.
        words: The word of each label.
    """
    if not top:
        return None
    begins = {label: (_plain(word), _bare(word)) for label, word in words.items()}
    mass, unclear = dict.fromkeys(words, 0.0), 0.0
    for token, value in top.items():
        piece = _plain(token.strip(BLANKS_OF_TOKENS)).strip(QUOTES + "([{*_.,:;)]} ")
        matching = [
            label
            for label, forms in begins.items()
            if piece and any(form.startswith(piece) for form in forms)
        ]
        if len(matching) == 1:
            mass[matching[0]] += math.exp(value)
        elif matching:
            unclear += math.exp(value)
    if sum(mass.values()) <= unclear or not any(mass.values()):
        return None
    least = 0.5 * math.exp(min(top.values()))
    floor = max(min(least, 0.5 * min(m for m in mass.values() if m)), 1e-30)
    filled = [m or floor for m in mass.values()]
    return [math.log(m / sum(filled)) for m in filled]
