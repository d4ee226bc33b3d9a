"""What becomes of a reply: kept, or the reason why not. One reply, one fate."""

from typing import TYPE_CHECKING

from ..data.examples import Example, overlap_key
from ..errors import UserError
from . import parsing
from .journal import Reply
from .prompts import PromptBuilder

if TYPE_CHECKING:
    from ..config.llm_schema import Generate
    from .few_shot import Pool

OUTCOMES = ("kept", "duplicate", "near-duplicate", "malformed", "wrong label", "too long", "equal to a real text")


class ReplyFilter:
    """Judges replies one after the other, in the order of their places: who comes first in the file counts as the original."""

    def __init__(self, settings: "Generate", pool: "Pool", wording: PromptBuilder) -> None:
        self.settings, self.wording = settings, wording
        self.real = {overlap_key(e) for e in pool.small.examples}
        self.kept: dict[int, Example] = {}
        self._keys: set[tuple[str, str]] = set()
        self._near = None if settings.near_duplicates is None else Near(settings.near_duplicates)

    def judge(self, place: int, label: str, reply: Reply) -> str:
        """The fate of a reply; the example is remembered where it is kept."""
        cut = reply.finish == "length"
        found = parsing.parse_example(reply.text, self.wording.opening(label), self.wording.template.example, self.wording.pairs)
        if found is None:
            return "too long" if cut else "malformed"
        if found.label is not None and parsing.match_label(found.label, self.wording.words) != label:
            return "wrong label"
        longest = max(len(found.text), len(found.text_pair or ""))
        if longest > self.settings.max_chars or (cut and not self._ended(reply)):
            return "too long"
        example = Example(f"{self.settings.seed}-{place}", found.text, found.text_pair, label)
        key = overlap_key(example)
        if key in self.real:
            return "equal to a real text"
        if key in self._keys:
            return "duplicate"
        if self._near is not None and self._near.seen(str(place), example):
            return "near-duplicate"
        self._keys.add(key)
        self.kept[place] = example
        return "kept"

    def _ended(self, reply: Reply) -> bool:
        """Whether the example was whole before the limit cut what came after it: a later line, or a closed JSON object."""
        if self.settings.generator.api == "completions":
            return reply.text.strip().count("\n") >= (2 if self.wording.pairs else 1)
        return parsing.find_json_object(reply.text) is not None


class Near:
    """MinHash over word 3-grams: texts whose estimated Jaccard similarity reaches a threshold are copies."""

    def __init__(self, threshold: float) -> None:
        try:
            from datasketch import MinHash, MinHashLSH
        except ImportError as error:
            raise UserError("near_duplicates needs the package datasketch: pip install -e '.[generate]'") from error
        self.make, self.threshold = MinHash, threshold
        self.index = MinHashLSH(threshold=min(threshold, 0.999), num_perm=128)
        self.hashes: dict[str, object] = {}

    def seen(self, key: str, example: Example) -> bool:
        """Whether a former text is near; this one is remembered where none is."""
        words = f"{example.text} {example.text_pair or ''}".casefold().split()
        grams = {" ".join(words[i : i + 3]) for i in range(max(1, len(words) - 2))}
        sketch = self.make(num_perm=128, seed=1)
        sketch.update_batch([gram.encode() for gram in sorted(grams)])
        if any(sketch.jaccard(self.hashes[other]) >= self.threshold for other in self.index.query(sketch)):
            return True
        self.index.insert(key, sketch)
        self.hashes[key] = sketch
        return False
