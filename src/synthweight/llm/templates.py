"""Prompt templates: how they are filled, and how an answer in their form is read."""

import re
import string
from functools import lru_cache


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
    """What an example in this form looks like: each field one line, its name perhaps in bold."""
    out, seen = "", set()
    for literal, name, _, _ in string.Formatter().parse(template):
        out += re.sub(r"(\\ )+", r"\\s*", re.escape(literal)).replace("\\\n", r"\s*\n\s*[*_]*").replace(":", "[*_]*[:：][*_]*")
        if name is not None:
            out += f"(?P<{name}>[^\\n]+)" if name not in seen else f"(?P={name})"
            seen.add(name)
    return re.compile(out, re.IGNORECASE)
