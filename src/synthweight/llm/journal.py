"""Every reply on disk before it is used: JSON lines, first the settings, then a line for each reply."""

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
    """What a server replied. `top`: the first token's most likely candidates with their log-probabilities."""

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
    """An append-only file of one configuration's replies, which its owner alone may read."""

    def __init__(self, path: Path, settings: dict[str, Any]) -> None:
        """Reads nothing yet.

        Args:
            path: Of the file.
            settings: What makes two configurations the same one.
        """
        self.path, self.settings = path, json.loads(json.dumps(settings))
        self.replies: dict[str, Reply] = {}
        self.prompt_tokens = self.completion_tokens = 0
        self._file: IO[str] | None = None

    def load(self) -> None:
        """Reads the file, where there is one. Half a line at its end, of a killed process, is cut off.

        The caller holds the lock of the folder.

        Raises:
            UserError: It belongs to other settings (the first difference is named), or a line within it is
                damaged.
        """
        raw = self.path.read_bytes() if self.path.is_file() else b""
        whole = raw[: raw.rfind(b"\n") + 1]
        for number, line in enumerate(whole.split(b"\n")[:-1], start=1):
            try:
                row = json.loads(line)
                if number == 1:
                    self._check_settings(row)
                else:
                    self._count(Reply(**row))
            except (ValueError, TypeError, KeyError, AttributeError) as error:
                raise UserError(
                    f"{self.path}:{number}: damaged ({error}): restore the file, or name another folder"
                ) from error
        if len(whole) < len(raw):
            with self.path.open("r+b") as file:
                file.truncate(len(whole))

    def _check_settings(self, header: dict[str, Any]) -> None:
        if header.get("format") != FORMAT:
            raise UserError(
                f"{self.path}: has format {header.get('format')!r}, this program writes {FORMAT}: name another folder"
            )
        for key, kept, new in differences(header["settings"], self.settings):
            raise UserError(
                f"{self.path.parent}: holds the output of another configuration ({key} is {kept!r} there, "
                f"{new!r} here): name another folder, or delete it"
            )

    def _count(self, reply: Reply) -> None:
        self.replies[reply.key] = reply
        self.prompt_tokens += reply.prompt_tokens
        self.completion_tokens += reply.completion_tokens

    def append(self, reply: Reply) -> None:
        """Hands a reply to the operating system, then counts it: a killed process loses none that it had."""
        if self._file is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = open(self.path, "a", encoding="utf-8", newline="\n", opener=_open_private)  # noqa: SIM115
            if self._file.tell() == 0:
                header = {"format": FORMAT, "settings": self.settings}
                self._file.write(json.dumps(header, ensure_ascii=False) + "\n")
        self._file.write(json.dumps(vars(reply), ensure_ascii=False) + "\n")
        self._file.flush()
        self._count(reply)

    def close(self) -> None:
        """Waits until the file is on the disk: what was paid for outlives a power cut."""
        if self._file is not None:
            os.fsync(self._file.fileno())
            self._file.close()
            self._file = None


def _open_private(path: str, flags: int) -> int:
    """Creates a file that its owner alone may read: prompts and replies are the user's own data."""
    return os.open(path, flags, 0o600)


def differences(kept: Any, new: Any, prefix: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Where two nested settings differ: the dotted key, and both values.

    Args:
        kept: The settings that the file was made with.
        new: The settings of now.
        prefix: The dotted key of both.
    """
    if isinstance(kept, dict) and isinstance(new, dict):
        for key in sorted({*kept, *new}):
            yield from differences(kept.get(key), new.get(key), f"{prefix}.{key}" if prefix else key)
    elif kept != new:
        yield prefix, kept, new
