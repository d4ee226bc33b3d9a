"""What a user did, or met, that the project answers with one line instead of a traceback."""


class UserError(Exception):
    """Bad input or a bad surrounding: one line that says what, where and what to do. Exit code 2."""


class SweepFailed(UserError):
    """At least one run of a sweep failed; each is recorded and listed. Exit code 1."""


class CheckerFailed(UserError):
    """A run cannot begin because its checker failed."""


class MissingScores(ValueError):
    """A strategy needs the scores of a checker that the batch does not carry."""


def first_line(error: BaseException, otherwise: str = "") -> str:
    """The first line of an error's message, for messages of one line; `otherwise` where it has none."""
    return (str(error).strip().splitlines() or [otherwise])[0]


def require(ok: bool, key: str, rule: str, value: object) -> None:
    """Raises UserError where a setting is out of its range."""
    if not ok:
        raise UserError(f"{key} must be {rule}, is {value!r}")
