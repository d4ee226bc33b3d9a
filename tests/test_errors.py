"""One line for a user, whatever is in the names that it repeats."""

from synthweight.errors import CheckerFailedError, SweepFailedError, UserError


def test_control_characters_are_shown_as_their_escapes():
    given = "a\nb\tc\x1b[2J\x7f\u2028\udc80"
    for kind in (UserError, CheckerFailedError):
        assert str(kind(f"{given}: no such folder")) == r"a\nb\tc\x1b[2J\x7f\u2028\udc80: no such folder"
    assert str(UserError("é 👎 \u200d दा")) == "é 👎 \u200d दा"


def test_a_failed_sweep_has_a_line_for_each_run():
    assert str(SweepFailedError("two failed\n  a\n  b")).count("\n") == 2
