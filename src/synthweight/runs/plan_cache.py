"""Results that are computed once while runs are identified, since thousands of runs share their data and
encoders.
"""

from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")


class PlanCache:
    """Keeps results by key. While it is used, data and encoder files are taken to stay as they are."""

    def __init__(self) -> None:
        self.known: dict[str, Any] = {}

    def get(self, key: Any, compute: Callable[[], T]) -> T:
        """The result for a key, computed the first time.

        Args:
            key: settings; equal ones have the same `repr`.
            compute: gives the result.
        """
        name = repr(key)
        if name not in self.known:
            self.known[name] = compute()
        return self.known[name]
