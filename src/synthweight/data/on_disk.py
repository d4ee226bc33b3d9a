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

IN_MEMORY = 20_000  # examples; fewer are a tuple, some 10 MB
READ_AHEAD = 1_000  # examples that are read at once


class OnDiskExamples(Sequence[Example]):
    """A sequence of examples in a file; memory holds where each begins and ends, 16 bytes.

    The file has no name, and disappears with the last sequence that reads it; it is where the system's
    temporary files are (TMPDIR). It is a copy: changes of the file that the examples came from do not reach a
    run that has started.

    Args:
        file: open for reading; each example is one line of JSON, its fields in their order.
        begins: int64, [n], in bytes.
        ends: int64, [n], in bytes.
        whole: the sequence that the file belongs to; None: to this one.
    """

    def __init__(
        self, file: IO[bytes], begins: np.ndarray, ends: np.ndarray, whole: "OnDiskExamples | None" = None
    ) -> None:
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
        """The examples of a range; those that lie side by side are read at once.

        Args:
            start: position of the first.
            end: position after the last.
        """
        for first in range(start, end, READ_AHEAD):
            block = slice(first, min(first + READ_AHEAD, end))
            begins, ends = self.begins[block], self.ends[block]
            gaps = np.flatnonzero(ends[:-1] != begins[1:]) + 1
            for one, last in zip(begins[[0, *gaps]].tolist(), ends[[*(gaps - 1), -1]].tolist(), strict=True):
                # by place, not by a position of the file's, which all threads would share
                lines = os.pread(self.file.fileno(), last - one, one)
                # of two GiB and more, or of some file systems, a part comes at a time
                while len(lines) < last - one:
                    more = os.pread(self.file.fileno(), last - one - len(lines), one + len(lines))
                    if not more:
                        raise OSError(errno.EIO, "the file of texts became shorter", tempfile.gettempdir())
                    lines += more
                yield from map(_decode, lines.split(b"\n")[:-1])

    def at(self, places: Sequence[int]) -> "OnDiskExamples":
        """The examples at some positions, in the same file.

        Args:
            places: of the examples, in the new order.
        """
        chosen = np.asarray(places, dtype=np.int64)
        return OnDiskExamples(self.file, self.begins[chosen], self.ends[chosen], self.whole or self)


def _decode(line: bytes) -> Example:
    name, text, pair, label, kind, origin = json.loads(line)
    return Example(name, text, pair, sys.intern(label), sys.intern(kind), origin)


def read_examples(path: Path, split: str) -> Examples:
    """The examples of one file; raises what `iter_examples` and `spill_to_disk` raise.

    Args:
        path: of the file, in any format of `readers`.
        split: which names examples without an id.
    """
    return spill_to_disk(iter_examples(path, split))


def spill_to_disk(examples: Iterable[Example]) -> Examples:
    """The examples as a sequence: a tuple, or in a temporary file where they are many.

    Args:
        examples: any number of them.

    Raises:
        UserError: they are many, and there is no room for them where temporary files lie.
    """
    if isinstance(examples, tuple | OnDiskExamples):
        return examples
    rest = iter(examples)
    first = tuple(islice(rest, IN_MEMORY))
    if len(first) < IN_MEMORY:
        return first
    with ExitStack() as failed:
        with temp_dir_errors():
            file = tempfile.TemporaryFile()  # noqa: SIM115, it stays open as long as its examples
        failed.callback(_close, file)
        starts = _write_lines(file, chain(first, rest))
        failed.pop_all()
    return OnDiskExamples(file, starts[:-1], starts[1:])


def select(examples: Examples, places: Sequence[int]) -> Examples:
    """The examples at some positions; many of an `OnDiskExamples` are not copied.

    Args:
        examples: to choose from.
        places: of the examples, in the new order.
    """
    if isinstance(examples, OnDiskExamples) and len(places) >= IN_MEMORY:
        return examples.at(places)
    return spill_to_disk(examples[i] for i in places)


def _write_lines(file: IO[bytes], examples: Iterable[Example]) -> np.ndarray:
    """Writes the examples, a line each; where they begin, and where the last one ends."""
    starts, rest = array("q", [0]), iter(examples)
    while lines := [_encode(e) for e in islice(rest, READ_AHEAD)]:
        with temp_dir_errors():
            file.writelines(lines)
        for one in lines:
            starts.append(starts[-1] + len(one))
    with temp_dir_errors():
        file.flush()
    return np.frombuffer(starts, dtype=np.int64)


def _encode(e: Example) -> bytes:
    fields = [e.id, e.text, e.text_pair, e.label, e.kind, e.origin]
    return json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


@contextmanager
def temp_dir_errors() -> Iterator[None]:
    """Within it an OSError is one of the folder of temporary files."""
    try:
        yield
    except OSError as error:
        where = ""
        with suppress(OSError):  # there may be none at all, which is then what the error says
            where = f"{tempfile.gettempdir()}: "
        raise UserError(
            f"{where}{error.strerror or error}: point TMPDIR to a folder with room for the texts"
        ) from error


def _close(file: IO[bytes]) -> None:
    """Whatever is left to write."""
    with suppress(OSError):
        file.close()
