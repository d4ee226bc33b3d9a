"""What the tuning scripts share: a journal of trials, one line each, and the tables of a page that are written from it."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

Trial = dict[str, Any]


def done(journal: Path) -> list[Trial]:
    """Every finished trial."""
    return [json.loads(line) for line in journal.read_text().splitlines()] if journal.is_file() else []


def ensure(journal: Path, key: Trial, run: Callable[[], Trial]) -> Trial:
    """The trial of this key: from the journal, or run now and appended."""
    for row in done(journal):
        if all(row[k] == v for k, v in key.items()):
            return row
    row = key | run()
    print(row, flush=True)
    with journal.open("a") as file:
        file.write(json.dumps(row) + "\n")
    return row


def write_page(page: Path, names: Iterable[str], table: Callable[[str], str]) -> None:
    """Writes each table between its `<!-- trials NAME -->` and `<!-- /trials NAME -->`."""
    text = page.read_text()
    for name in names:
        before, rest = text.split(f"<!-- trials {name} -->\n")
        _, after = rest.split(f"<!-- /trials {name} -->")
        text = f"{before}<!-- trials {name} -->\n{table(name)}\n<!-- /trials {name} -->{after}"
    page.write_text(text)
