"""What becomes of a reply: kept, or the reason why not. One reply, one outcome."""

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

    def outcome(self, index: int, label: str, reply: Reply) -> str:
        """What becomes of a reply; the example is put into `kept` where it is kept.

        Args:
            index: Of the example in the file.
            label: The one that was requested.
            reply: The server's.
        """
        prompts, cut = self.prompts, reply.finish == "length"
        found = parsing.parse_example(
            reply.text, prompts.opening(label), prompts.template.example, prompts.pairs
        )
        if found is None:
            return "too long" if cut else "malformed"
        if found.label is not None and parsing.match_label(found.label, prompts.words) != label:
            return "wrong label"
        longest = max(len(found.text), len(found.text_pair or ""))
        if longest > self.settings.max_chars or (cut and not self._is_whole(reply)):
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

    def _is_whole(self, reply: Reply) -> bool:
        """Whether the limit cut what came after the example alone: there is a later line, or the JSON object
        is closed.
        """
        if self.settings.generator.api == "completions":
            return reply.text.strip().count("\n") >= (2 if self.prompts.pairs else 1)
        return parsing.find_json_object(reply.text) is not None


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
