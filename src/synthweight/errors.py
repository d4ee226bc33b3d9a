"""What a user did, or met, that the project answers with one line instead of a traceback."""

import errno
import re

CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)  # what no other run on this disk would fare better with


class UserError(Exception):
    """Bad input or a bad surrounding: one line that says what, where and what to do. Exit code 2."""

    def __str__(self) -> str:
        """The message; control characters of what was given, such as a line's end in a name, as their escapes."""
        return CONTROL.sub(lambda found: repr(found[0])[1:-1], super().__str__())


class SweepFailedError(UserError):
    """At least one run of a sweep failed; each is recorded and listed. Exit code 1."""

    __str__ = Exception.__str__  # a line each


class CheckerFailedError(UserError):
    """A run cannot begin because its checker failed."""


class RunLockedError(UserError):
    """Another living process is at this run."""


class LockLostError(UserError):
    """Another process took this run over while this one showed no sign of life."""


class MissingScoresError(ValueError):
    """A strategy needs the scores of a checker that the batch does not carry."""


def first_line(error: BaseException, otherwise: str = "") -> str:
    """The first line of an error's message, for messages of one line.

    Args:
        error: any.
        otherwise: what to say where it has no message.
    """
    return (str(error).strip().splitlines() or [otherwise])[0]


def disk_full(error: BaseException) -> bool:
    """Whether a full or read-only disk is behind an error: no fault of the run, and the next would fail too.

    Args:
        error: any, with its causes.
    """
    seen: BaseException | None = error
    while seen is not None:  # libraries wrap it, some keep only its words
        if (isinstance(seen, OSError) and seen.errno in FULL) or "No space left on device" in str(seen):
            return True
        seen = seen.__cause__ or seen.__context__
    return False


def require(ok: bool, key: str, rule: str, value: object) -> None:
    """Raises UserError where a setting is out of its range.

    Args:
        ok: whether it is within.
        key: of the setting.
        rule: what it must be, for the message.
        value: what it is.
    """
    if not ok:
        raise UserError(f"{key} must be {rule}, is {value!r}")


def memory_full(error: BaseException) -> bool:
    """Whether a device or this machine has no memory left, as torch or oneDNN report it.

    Args:
        error: any.
    """
    phrases = ("can't allocate memory", "could not create a primitive")
    # torch's: not imported here
    return type(error).__name__ == "OutOfMemoryError" or any(words in str(error) for words in phrases)
