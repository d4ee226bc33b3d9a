"""Every reply on disk before it is used: JSONL, a header with the settings, then one line a reply."""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from ..errors import UserError

FORMAT = 1


@dataclass(frozen=True)
class Reply:
    """What a server answered. `top`: the first token's most likely candidates with their log-probabilities."""

    key: str
    text: str
    finish: str | None
    model: str | None
    prompt_tokens: int
    completion_tokens: int
    top: dict[str, float] | None
    prompt_sha256: str
    when: str


class Journal:
    """Append-only, and of one configuration."""

    def __init__(self, path: Path, settings: dict[str, Any]) -> None:
        self.path, self.settings = path, json.loads(json.dumps(settings))
        self.replies: dict[str, Reply] = {}
        self.prompt_tokens = self.completion_tokens = 0
        self._file: IO[str] | None = None

    def load(self) -> None:
        """Reads what is there; the caller holds the lock of the folder. A half last line, of a killed process, is cut off.

        Raises:
            UserError: the file belongs to other settings (the first difference is named), or a line within it is damaged.
        """
        raw = self.path.read_bytes() if self.path.is_file() else b""
        whole = raw[: raw.rfind(b"\n") + 1]
        for number, line in enumerate(whole.splitlines(), start=1):
            try:
                row = json.loads(line)
                if number == 1:
                    self._own(row)
                else:
                    self._count(Reply(**row))
            except (ValueError, TypeError) as error:
                raise UserError(f"{self.path}:{number}: damaged ({error}): restore the file, or name another folder") from error
        if len(whole) < len(raw):
            with self.path.open("r+b") as file:
                file.truncate(len(whole))

    def _own(self, header: dict[str, Any]) -> None:
        if header.get("format") != FORMAT:
            raise UserError(f"{self.path}: of format {header.get('format')!r}, this program writes {FORMAT}: name another folder")
        for key, (there, here) in differences(header["settings"], self.settings):
            raise UserError(
                f"{self.path.parent}: holds the output of another configuration ({key} is {there!r} there, {here!r} here): "
                "name another folder, or delete it"
            )

    def _count(self, reply: Reply) -> None:
        self.replies[reply.key] = reply
        self.prompt_tokens += reply.prompt_tokens
        self.completion_tokens += reply.completion_tokens

    def append(self, reply: Reply) -> None:
        """Writes the reply out of this process, then counts it: a killed process loses none that it had."""
        if self._file is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = open(self.path, "a", encoding="utf-8", newline="\n", opener=_private)  # noqa: SIM115
            if self._file.tell() == 0:
                self._file.write(json.dumps({"format": FORMAT, "settings": self.settings}, ensure_ascii=False) + "\n")
        self._file.write(json.dumps(vars(reply), ensure_ascii=False) + "\n")
        self._file.flush()
        self._count(reply)

    def close(self) -> None:
        """To the disk itself: what was paid for outlives a power cut too."""
        if self._file is not None:
            os.fsync(self._file.fileno())
            self._file.close()
            self._file = None


def _private(path: str, flags: int) -> int:
    """Opens a file that its owner alone may read: prompts and replies are the user's own data."""
    return os.open(path, flags, 0o600)


def differences(there: Any, here: Any, prefix: str = "") -> Iterator[tuple[str, tuple[Any, Any]]]:
    """Where two nested settings differ, by dotted key."""
    if isinstance(there, dict) and isinstance(here, dict):
        for key in sorted({*there, *here}):
            yield from differences(there.get(key), here.get(key), f"{prefix}.{key}" if prefix else key)
    elif there != here:
        yield prefix, (there, here)
