"""Files of `dataset=tweet_sentiment` and `dataset=hyperbole`, made from a clone of
AndersGiovanni/worker_vs_gpt (MIT).

    git clone https://github.com/AndersGiovanni/worker_vs_gpt CLONE && git -C CLONE checkout 7af9edea
    python benchmarks/parrot_data.py CLONE OUT
    synthweight train dataset=hyperbole source.variant=gpt4 paths.data=OUT

The data of Møller et al., The Parrot Dilemma (EACL 2024): tweets of TweetEval's sentiment task and sentences
of HYPO-L, each with examples that GPT-4 and Llama-2-70B-chat wrote. Texts are stripped; of LLM-written
examples that are equal the first is kept. Nothing else is changed, and the order is the source's.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

from synthweight.config import bind
from synthweight.data import benchmarks
from synthweight.data.examples import write_jsonl
from synthweight.data.readers import iter_rows
from synthweight.errors import UserError

FOLDERS = {"tweet_sentiment": "data/sentiment", "hyperbole": "data/hypo-l"}
REAL = {"small_real": "base.json", "large_real": "train.json", "test": "test.json"}
WRITTEN = {
    "synthetic_gpt4": "balanced_gpt-4_augmented.json",
    "synthetic_llama2": "balanced_llama-2-70b_augmented.json",
}


def real_rows(path: Path) -> Iterator[dict[str, str]]:
    """The examples of one real file."""
    for where, row in iter_rows(path):
        yield {"text": _field(row, "text", where), "label": _label(row, where)}


def written_rows(path: Path) -> Iterator[dict[str, str]]:
    """The LLM-written examples of one file, each text once."""
    seen: set[str] = set()
    for where, row in iter_rows(path):
        text = _field(row, "augmented_text", where)
        if text and text not in seen:
            seen.add(text)
            yield {"text": text, "label": _label(row, where)}


def _label(row: dict[str, object], where: str) -> str:
    return _field(row, "target", where).replace(" ", "_")


def _field(row: dict[str, object], field: str, where: str) -> str:
    value = row.get(field)
    if not isinstance(value, str):
        raise UserError(f"{where}: {field} must be a string, is {value!r}: is the clone at commit 7af9edea?")
    return value.strip()


def convert(clone: Path, out: Path) -> Iterator[str]:
    """Writes all files, and yields a line a file: its name, its number of examples, whether it is the pinned
    one.

    Args:
        clone: The folder of the clone.
        out: Where a folder for each of the two datasets is made.

    Raises:
        UserError: A file is absent or not of the expected form.
    """
    for name, folder in FOLDERS.items():
        dataset = bind.load_choice("dataset", name)
        for split, file in {**REAL, **WRITTEN}.items():
            rows = (real_rows if split in REAL else written_rows)(clone / folder / file)
            path = out / name / f"{split}.jsonl"
            write_jsonl(path, rows)
            made = benchmarks.read_split(path, split.partition("_")[0] if split in WRITTEN else split)
            same = "as pinned" if made.sha256 == dataset.sha256[split] else "NOT the pinned data"
            yield f"{path}: {len(made.examples)} examples, {same}"


def main() -> int:
    """Runs from the command line; exit code 1 where a file is not the pinned one, 2 for bad input."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("clone", type=Path)
    parser.add_argument("out", type=Path)
    given = parser.parse_args()
    lines = []
    try:
        for line in convert(given.clone, given.out):
            print(line, flush=True)
            lines.append(line)
    except UserError as error:
        print(f"parrot_data: {error}", file=sys.stderr)
        return 2
    return int(any("NOT" in line for line in lines))


if __name__ == "__main__":
    sys.exit(main())
