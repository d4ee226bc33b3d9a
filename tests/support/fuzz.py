"""Damage as files and command lines meet it: bytes lost, doubled, changed, or put in where they mean something."""

from typing import TypeVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

Whole = TypeVar("Whole", str, bytes)
# derandomized: a run of the tests fails for what changed, not for its luck
FUZZ = settings(
    max_examples=500,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)


@st.composite
def damaged(draw: st.DrawFn, wholes: list[Whole], pieces: list[Whole], most: int = 4) -> Whole:
    """One of `wholes` with up to `most` changes: a part left out, a part doubled, a piece put in or written over.

    Args:
        draw: of hypothesis.
        wholes: what is right.
        pieces: what means something where such things are read.
        most: changes.
    """
    value = draw(st.sampled_from(wholes))
    for _ in range(draw(st.integers(0, most))):
        begin = draw(st.integers(0, len(value)))
        end = min(len(value), begin + draw(st.integers(0, 8)))
        new = draw(st.sampled_from([value[:0], value[begin:end] * 2, *pieces]))
        value = value[:begin] + new + value[draw(st.sampled_from([begin, end])) :]
    return value
