"""Results that are computed once while runs are identified: thousands share their data and encoders."""

from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")


class PlanCache:
    """Keeps results by key. While it is used, data and encoder files are taken to stay as they are.

    Attributes:
        pinned: Runs whose data are not on this machine are named by the pinned hashes (conf/dataset): enough to find
            their rows, not to train them.
    """

    def __init__(self, pinned: bool = False) -> None:
        """Nothing is known yet."""
        self.pinned = pinned
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
