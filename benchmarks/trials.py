"""What the scripts share: a journal of trials, one line each, the tables of a page that are written from it,
a split's tokens.
"""

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

Trial = dict[str, Any]
# to compare with the Trainer
CE = ["loss=ce", "source=synthetic", "logger=none", "trainer.checkpoint=off"]


def done(journal: Path) -> list[Trial]:
    """Every finished trial."""
    return [json.loads(line) for line in journal.read_text().splitlines()] if journal.is_file() else []


def ensure(journal: Path, key: Trial, run: Callable[[], Trial]) -> Trial:
    """The trial of this key: from the journal, or run now and appended."""
    for row in done(journal):
        if all(row[k] == v for k, v in key.items()):
            return row
    return add(journal, key | run())


def add(journal: Path, row: Trial) -> Trial:
    """The same row, appended."""
    print(row, flush=True)
    journal.parent.mkdir(parents=True, exist_ok=True)
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


def split(run: Any, data: Any, examples: Any, cache: Path | None = None) -> tuple[Any, Any]:
    """The examples' tokens and label positions, as `TrainingJob` takes them."""
    from synthweight.data.tokenization import tokenize
    from synthweight.models import pretrained  # here: what reads a journal alone need not wait for torch

    folder, encoder = pretrained.locate(run.model), pretrained.fingerprint(run.model)
    tokens = tokenize(folder, encoder, examples, run.optim.max_length, cache or Path(run.paths.cache))
    return tokens, data.targets(examples)


def training(run: Any, home: Path, data: Any, cache: Path, series: Iterable[str]) -> Any:
    """CE's `TrainingJob` of a run, evaluated on the splits named."""
    from synthweight.training.job import TrainingJob

    tokens = {name: split(run, data, getattr(data, name), cache) for name in ("train", *series)}
    return TrainingJob.from_run(
        run, home, data.labels, tokens["train"], {name: tokens[name] for name in series}
    )
