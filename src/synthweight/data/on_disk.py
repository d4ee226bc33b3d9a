"""Examples that are too many to be held: in a file, and read when they are asked for."""

import errno
import json
import os
import sys
import tempfile
import weakref
from array import array
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from itertools import chain, islice
from pathlib import Path
from typing import IO, Any, overload

import numpy as np

from ..errors import UserError
from .examples import Example, Examples, iter_examples

MANY = 20_000  # examples; fewer are a tuple, some 10 MB
BLOCK = 1_000  # examples that are read at once


class Shelf(Sequence[Example]):
    """A sequence of examples of which memory holds where each begins and ends, 16 bytes.

    The file has no name and goes with its last shelf; it lies where the system's temporary files do (TMPDIR). It is a copy:
    what is done to the file that the examples came from does not reach a run that has begun.
    """

    def __init__(self, file: IO[bytes], begins: np.ndarray, ends: np.ndarray, whole: "Shelf | None" = None) -> None:
        """begins, ends: int64, [n], in bytes; each example is one line of JSON, its fields in their order.

        whole: the shelf whose file it is; none where it is this one's own.
        """
        self.file, self.begins, self.ends, self.whole = file, begins, ends, whole
        if whole is None:
            weakref.finalize(self, file.close)

    def __len__(self) -> int:
        return len(self.begins)

    @overload
    def __getitem__(self, index: int) -> Example: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Example, ...]: ...
    def __getitem__(self, index: Any) -> Any:
        places = range(len(self))[index]
        if isinstance(places, int):
            return next(self.between(places, places + 1))
        if places.step == 1:
            return tuple(self.between(places.start, places.stop))
        return tuple(self[i] for i in places)

    def __iter__(self) -> Iterator[Example]:
        return self.between(0, len(self))

    def between(self, start: int, end: int) -> Iterator[Example]:
        """The examples from one place to before another; those that lie side by side are read at once."""
        for first in range(start, end, BLOCK):
            block = slice(first, min(first + BLOCK, end))
            begins, ends = self.begins[block], self.ends[block]
            gaps = np.flatnonzero(ends[:-1] != begins[1:]) + 1
            for one, last in zip(begins[[0, *gaps]].tolist(), ends[[*(gaps - 1), -1]].tolist(), strict=True):
                # by place, not by a position of the file's, which all threads would share
                lines = os.pread(self.file.fileno(), last - one, one)
                while len(lines) < last - one:  # of two GiB and more, or of some file systems, a part comes at a time
                    more = os.pread(self.file.fileno(), last - one - len(lines), one + len(lines))
                    if not more:
                        raise OSError(errno.EIO, "the file of texts became shorter", tempfile.gettempdir())
                    lines += more
                yield from map(read, lines.split(b"\n")[:-1])

    def at(self, places: Sequence[int]) -> "Shelf":
        """Those at some places, in the same file."""
        chosen = np.asarray(places, dtype=np.int64)
        return Shelf(self.file, self.begins[chosen], self.ends[chosen], self.whole or self)


def read(line: bytes) -> Example:
    name, text, pair, label, kind, origin = json.loads(line)
    return Example(name, text, pair, sys.intern(label), sys.intern(kind), origin)


def read_examples(path: Path, split: str) -> Examples:
    """The examples of one file; raises what `iter_examples` and `shelve` do."""
    return shelve(iter_examples(path, split))


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
    return Shelf(file, starts[:-1], starts[1:])


def pick(examples: Examples, places: Sequence[int]) -> Examples:
    """The examples at some places, in that order; of a shelf, where they are many, without a copy."""
    if isinstance(examples, Shelf) and len(places) >= MANY:
        return examples.at(places)
    return shelve(examples[i] for i in places)


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
        where = ""
        with suppress(OSError):  # there may be none at all, which is then what the error says
            where = f"{tempfile.gettempdir()}: "
        raise UserError(f"{where}{error.strerror or error}: point TMPDIR to a folder with room for the texts") from error


def closed(file: IO[bytes]) -> None:
    """Whatever is left to write."""
    with suppress(OSError):
        file.close()
