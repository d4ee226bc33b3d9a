"""`synthweight describe`: what a set of examples is like, as text, JSON and a page."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..atomic_io import atomic_path
from ..config import compose
from ..config.schema import CONF
from ..errors import UserError
from ..llm.describe import Description, describe_examples, embed_sets
from .read import Columns, Table, read_table, require_columns
from .report import render
from .workspace import model_overrides

GUESSED = Columns()


@dataclass(frozen=True)
class Described:
    """A set's figures. `real` is the name of the real set, `encoder` that of the encoder; None without one."""

    where: str
    real: str | None
    encoder: str | None
    figures: Description

    def as_json(self) -> str:
        """All figures as JSON."""
        names = {"file": self.where, "real_file": self.real, "encoder": self.encoder}
        return json.dumps(names | self.figures.as_dict(), indent=1, ensure_ascii=False)

    def as_text(self) -> str:
        """The figures as lines of text."""
        shown = lines(self.figures)
        name, value = (max(len(line[i]) for line in shown) for i in (0, 1))
        return "\n".join([self.where, *(f"  {a:{name}}  {b:{value}}  {c}".rstrip() for a, b, c in shown)])

    def write_page(self, path: Path) -> None:
        """Writes the figures as an HTML page."""
        with atomic_path(path) as part:
            page = render("describe.html.j2", described=self, lines=lines(self.figures))
            part.write_text(page, encoding="utf-8")


def describe(
    source: Any, real: Any = None, model: str | None = "minilm", columns: Columns = GUESSED
) -> Described:
    """Describes a set of labelled examples.

    Args:
        source: A path, a hub name, a `datasets.Dataset`, a `pandas.DataFrame` or a list of dictionaries.
        real: Real examples to compare it with, likewise.
        model: The encoder for embeddings: a name of `conf/model`, a folder, or a name on the hub; None = none.
        columns: Names of columns, where they cannot be guessed.

    Raises:
        UserError: What `read_table` raises; pairs in one set only; an encoder that is not there.
    """
    table = read_table(source, "synthetic", columns)
    tables: list[Table] = [table] if real is None else [table, read_table(real, "real", columns)]
    require_columns(tables, columns)
    if len({each.examples[0].text_pair is None for each in tables}) > 1:
        pairs = [each.where for each in tables if each.examples[0].text_pair is not None]
        raise UserError(f"{pairs[0]} has pairs of texts and the other set has none: one task, one shape")
    sets = [each.examples for each in tables]
    vectors = None
    if model is not None:
        with compose.offline(CONF):
            run = compose.Composer("config").run(model_overrides(model))
        vectors = embed_sets(run.model, sets, run.optim.max_length)
    figures = describe_examples(sets[0], sets[1] if real is not None else None, vectors)
    return Described(table.where, tables[1].where if real is not None else None, model, figures)


def lines(d: Description) -> list[tuple[str, str, str]]:
    """Name, value and meaning of every figure."""
    out = [
        ("examples", str(d.n), ", ".join(f"{label} {n}" for label, n in d.labels.items())),
        ("duplicates", str(d.duplicates.exact), "equal an earlier text but for case and punctuation"),
        ("near-duplicates", str(d.duplicates.near), "are nearly the text of an earlier one"),
        ("vocabulary", str(d.vocabulary), "different words"),
    ]
    if d.words:
        length = f"median {d.words['median']:g}, 95 % have at most {d.words['p95']:g}"
        out.insert(1, ("words", f"{d.words['mean']:.1f}", f"per example in the mean; {length}"))
    for n, value in ((1, d.distinct_1), (2, d.distinct_2), (3, d.distinct_3)):
        out.append((f"distinct-{n}", figure(value), f"different {n}-grams over all; falls as a set grows"))
    out.append(
        ("self-BLEU-4", figure(d.self_bleu_4), "of each text against the others: 0 diverse, 1 all alike")
    )
    if d.embeddings:
        out += [
            ("embedding distance", figure(d.embeddings.distance), "mean cosine distance of two examples"),
            ("Vendi score", f"{d.embeddings.vendi:.1f}", "effective number of different examples"),
        ]
    if (r := d.real) is not None:
        out += [
            (
                "equal to a real text",
                str(r.same_text),
                f"of the {r.n} real examples, but for case and punctuation",
            ),
            (
                "words that are real",
                figure(r.vocabulary_real),
                "share of its different words in real texts too",
            ),
            ("real words covered", figure(r.vocabulary_covered), "share of the real texts' different words"),
        ]
        if r.to_real is not None:
            within = (
                f" ({figure(r.within_real)} from a real one to the next)" if r.within_real is not None else ""
            )
            out += [
                (
                    "distance to real",
                    figure(r.to_real),
                    f"mean cosine distance to the nearest real example{within}",
                ),
                (
                    "distance from real",
                    figure(r.from_real),
                    "the same from a real example to the nearest of the set",
                ),
            ]
    return out


def figure(value: float | None) -> str:
    """A share or a distance as text."""
    return "–" if value is None else f"{value:.3f}"
