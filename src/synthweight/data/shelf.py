"""Examples that are too many to be held: in a file, and read when they are asked for."""

import json
import sys
import tempfile
import weakref
from array import array
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from itertools import chain, islice
from pathlib import Path
from threading import Lock
from typing import IO, Any, overload

import numpy as np

from ..errors import UserError
from .records import Example, Examples, each

MANY = 20_000  # examples; fewer are a tuple, some 10 MB
BLOCK = 1_000  # examples that are read at once


class Shelf(Sequence[Example]):
    """A sequence of examples of which memory holds where each begins, 8 bytes.

    The file has no name and goes with its shelf; it lies where the system's temporary files do (TMPDIR). It is a copy:
    what is done to the file that the examples came from does not reach a run that has begun.
    """

    def __init__(self, file: IO[bytes], starts: np.ndarray) -> None:
        """starts: int64, [n + 1], in bytes. Each example is one line of JSON, its fields in their order."""
        self.file, self.starts = file, starts
        self.one = Lock()  # the file has one position, for all threads
        weakref.finalize(self, closed, file)

    def __len__(self) -> int:
        return len(self.starts) - 1

    @overload
    def __getitem__(self, index: int) -> Example: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Example, ...]: ...
    def __getitem__(self, index: Any) -> Any:
        places = range(len(self))[index]
        if isinstance(places, int):
            return self.between(places, places + 1)[0]
        if places.step == 1:
            return tuple(self.between(places.start, places.stop))
        return tuple(self[i] for i in places)

    def __iter__(self) -> Iterator[Example]:
        for start in range(0, len(self), BLOCK):
            yield from self.between(start, min(start + BLOCK, len(self)))

    def between(self, start: int, end: int) -> list[Example]:
        """The examples from one place to before another."""
        if end <= start:
            return []
        begins = int(self.starts[start])
        with self.one:
            self.file.seek(begins)
            lines = self.file.read(int(self.starts[end]) - begins)
        return [read(line) for line in lines.split(b"\n")[:-1]]


def read(line: bytes) -> Example:
    name, text, pair, label, kind, origin = json.loads(line)
    return Example(name, text, pair, sys.intern(label), sys.intern(kind), origin)


def read_jsonl(path: Path, split: str, labels: Sequence[str] | None) -> Examples:
    """The examples of one file; raises what `records.each` and `shelve` do."""
    return shelve(each(path, split, labels))


def shelve(examples: Iterable[Example]) -> Examples:
    """The examples as a sequence: a tuple, or on a shelf where they are many.

    Raises:
        UserError: they are many, and there is no room for them where temporary files lie.
    """
    if isinstance(examples, tuple | Shelf):
        return examples
    rest = iter(examples)
    first = tuple(islice(rest, MANY))
    if len(first) < MANY:
        return first
    with ExitStack() as failed:
        with room():
            file = tempfile.TemporaryFile()  # noqa: SIM115, it stays open until its shelf goes
        failed.callback(closed, file)
        starts = written(file, chain(first, rest))
        failed.pop_all()
    return Shelf(file, starts)


def written(file: IO[bytes], examples: Iterable[Example]) -> np.ndarray:
    """Writes the examples, a line each; where they begin, and where the last one ends."""
    starts, rest = array("q", [0]), iter(examples)
    while lines := [line(e) for e in islice(rest, BLOCK)]:  # what reading them raises is said of the file that they come from
        with room():
            file.writelines(lines)
        for one in lines:
            starts.append(starts[-1] + len(one))
    with room():
        file.flush()
    return np.frombuffer(starts, dtype=np.int64)


def line(e: Example) -> bytes:
    fields = [e.id, e.text, e.text_pair, e.label, e.kind, e.origin]
    return json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


@contextmanager
def room() -> Iterator[None]:
    """Within it an OSError is one of the folder of temporary files."""
    try:
        yield
    except OSError as error:
        where = tempfile.gettempdir()
        raise UserError(f"{where}: {error.strerror or error}: point TMPDIR to a folder with room for the texts") from error


def closed(file: IO[bytes]) -> None:
    """Whatever is left to write."""
    with suppress(OSError):
        file.close()
