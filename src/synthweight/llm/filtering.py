"""What becomes of the examples of a reply: kept, or the reason why not. One example, one outcome."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..data.examples import Example, overlap_key
from ..errors import UserError
from . import parsing
from .journal import Reply
from .prompts import PromptBuilder

if TYPE_CHECKING:
    from ..config.llm_schema import Generate
    from .few_shot import ExamplePool

OUTCOMES = (
    "kept",
    "duplicate",
    "near-duplicate",
    "malformed",
    "wrong label",
    "too long",
    "equal to a real text",
    "more than requested",
)


class ReplyFilter:
    """Judges replies in the order of their indices: of two equal texts the first in the file counts as the
    original.
    """

    def __init__(self, settings: "Generate", pool: "ExamplePool", prompts: PromptBuilder) -> None:
        """Remembers the real texts.

        Args:
            settings: How long a text may be, and whether near-duplicates are left out.
            pool: The real examples.
            prompts: How the task is put into words.

        Raises:
            UserError: Near-duplicates are asked for and the package `datasketch` is not installed.
        """
        self.settings, self.prompts = settings, prompts
        self.real = {overlap_key(e) for e in pool.small.examples}
        self.kept: dict[int, Example] = {}
        self._keys: set[tuple[str, str]] = set()
        near = settings.near_duplicates
        self._near = None if near is None else NearDuplicates(near)

    def outcomes(self, indices: Sequence[int], label: str, reply: Reply) -> list[str]:
        """What becomes of each example of a reply; those that are kept are put into `kept`.

        Args:
            indices: Of the examples in the file that were requested.
            label: The one that was requested.
            reply: The server's.
        """
        prompts, cut = self.prompts, reply.finish == "length"
        several = self.settings.per_request > 1
        opening = prompts.opening(label)
        found = parsing.parse_examples(
            reply.text, opening, prompts.template.example, prompts.pairs, 2 if several else 1, cut
        )
        free = list(indices)
        out = []
        for number, example in enumerate(found, start=1):
            if example is None:
                out.append("too long" if cut and number == len(found) else "malformed")
            elif not free:
                out.append("more than requested")
            else:
                out.append(self._outcome(free[0], label, example))
                if out[-1] == "kept":
                    free.pop(0)
        return out

    def _outcome(self, index: int, label: str, found: parsing.ParsedExample) -> str:
        """What becomes of one example, kept under this index."""
        if found.label is not None and parsing.match_label(found.label, self.prompts.words) != label:
            return "wrong label"
        if max(len(found.text), len(found.text_pair or "")) > self.settings.max_chars:
            return "too long"
        example = Example(f"{self.settings.seed}-{index}", found.text, found.text_pair, label)
        key = overlap_key(example)
        if key in self.real:
            return "equal to a real text"
        if key in self._keys:
            return "duplicate"
        if self._near is not None and self._near.has(str(index), example):
            return "near-duplicate"
        self._keys.add(key)
        self.kept[index] = example
        return "kept"


class NearDuplicates:
    """MinHash over word 3-grams: texts whose estimated Jaccard similarity reaches a threshold are
    near-duplicates.
    """

    def __init__(self, threshold: float) -> None:
        """An empty index. Raises UserError where the package `datasketch` is not installed."""
        try:
            from datasketch import MinHash, MinHashLSH
        except ImportError as error:
            raise UserError(
                "near_duplicates needs the package datasketch: pip install -e '.[generate]'"
            ) from error
        self.make, self.threshold = MinHash, threshold
        self.index = MinHashLSH(threshold=min(threshold, 0.999), num_perm=128)
        self.hashes: dict[str, object] = {}

    def has(self, key: str, example: Example) -> bool:
        """Whether an earlier text is near; this one is added under its key where none is."""
        words = f"{example.text} {example.text_pair or ''}".casefold().split()
        grams = {" ".join(words[i : i + 3]) for i in range(max(1, len(words) - 2))}
        sketch = self.make(num_perm=128, seed=1)
        sketch.update_batch([gram.encode() for gram in sorted(grams)])
        if any(sketch.jaccard(self.hashes[other]) >= self.threshold for other in self.index.query(sketch)):
            return True
        self.index.insert(key, sketch)
        self.hashes[key] = sketch
        return False
