"""Prompt templates: which fields they may have, how they are filled, and how an answer in their form is read."""

import re
import string
from functools import lru_cache

from ..errors import UserError

EXAMPLE = ("label", "text", "text_pair")
FIELDS = {
    "example": EXAMPLE,
    "case": EXAMPLE,
    "write_chat": ("task", "labels", "label", "examples"),
    "write_base": ("task", "labels"),
    "classify_chat": ("task", "labels"),
    "classify_base": ("task", "labels"),
}


def check(key: str, template: str, known: tuple[str, ...]) -> None:
    """Refuses a template that could not be filled.

    Raises:
        UserError: naming the setting: a field that there is not, a stray brace, or an example without its label or text.
    """
    try:
        fields = list(string.Formatter().parse(template))
    except ValueError as error:
        raise UserError(f"{key}: not a template ({error}): a literal brace is written {{{{ or }}}}") from error
    found = [name for _, name, _, _ in fields if name is not None]
    for name in found:
        if name not in known:
            raise UserError(f"{key}: unknown field {{{name}}}: there are {', '.join(f'{{{k}}}' for k in known)}")
    if any(spec for _, _, spec, _ in fields):
        raise UserError(f"{key}: fields take no format after a colon")
    where = key.rpartition(".")[2]
    if where in ("example", "case") and not {"label", "text"} <= set(found):
        raise UserError(f"{key}: {{label}} and {{text}} must both be in it")
    if where == "example" and found[0] != "label":
        raise UserError(f"{key}: {{label}} must come first: a text is written for its label")
    if where == "case" and (found[-1] != "label" or not template.endswith("{label}")):
        raise UserError(f"{key}: must end with {{label}}: the answer comes last")


def is_pair(template: str) -> bool:
    return any(name == "text_pair" for _, name, _, _ in string.Formatter().parse(template))


def fill(template: str, label: str, text: str, text_pair: str | None) -> str:
    """One example in the template's words."""
    return template.format(label=label, text=text.strip(), text_pair=(text_pair or "").strip())


def opening(template: str, field: str, values: dict[str, str]) -> str:
    """The template up to a field, filled: what a completion goes on from. A trailing space would spoil its first token."""
    return template[: template.index(f"{{{field}}}")].format(**values).rstrip(" ")


@lru_cache(maxsize=16)
def pattern(template: str) -> re.Pattern[str]:
    """What an example in this form looks like: each field one line."""
    out, seen = "", set()
    for literal, name, _, _ in string.Formatter().parse(template):
        out += re.sub(r"(\\ )+", r"\\s*", re.escape(literal)).replace("\\\n", r"\s*\n\s*")
        if name is not None:
            out += f"(?P<{name}>[^\\n]+)" if name not in seen else f"(?P={name})"
            seen.add(name)
    return re.compile(out, re.IGNORECASE)
