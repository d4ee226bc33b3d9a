"""Prompt templates: how they are filled, and how a reply in their form is read."""

import re
import string
from functools import lru_cache


def is_pair(template: str) -> bool:
    """Whether a template has a place for a second text."""
    return any(name == "text_pair" for _, name, _, _ in string.Formatter().parse(template))


def fill(template: str, label: str, text: str, text_pair: str | None) -> str:
    """One example in a template's words.

    Args:
        template: With the fields label, text and perhaps text_pair.
        label: The label's word.
        text: The first text.
        text_pair: The second one.
    """
    return template.format(label=label, text=text.strip(), text_pair=(text_pair or "").strip())


def fill_until(template: str, field: str, values: dict[str, str]) -> str:
    """A template up to a field, filled: what a completion goes on from.

    It ends without a space, which would spoil the first token of the completion.

    Args:
        template: With this field.
        field: The first one that is not filled.
        values: Of the fields before it.
    """
    return template[: template.index(f"{{{field}}}")].format(**values).rstrip(" ")


@lru_cache(maxsize=16)
def pattern(template: str) -> re.Pattern[str]:
    """What an example in a template's form looks like: each field one line, its name perhaps in bold."""
    out, seen = "", set()
    for literal, name, _, _ in string.Formatter().parse(template):
        spaced = re.sub(r"(\\ )+", r"\\s*", re.escape(literal))
        out += spaced.replace("\\\n", r"\s*\n\s*[*_]*").replace(":", "[*_]*[:：][*_]*")
        if name is not None:
            out += f"(?P<{name}>[^\\n]+)" if name not in seen else f"(?P={name})"
            seen.add(name)
    return re.compile(out, re.IGNORECASE)
