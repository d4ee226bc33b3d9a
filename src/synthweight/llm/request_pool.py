"""Many questions: a bounded number in flight, every reply in the journal, the bar, the budget, the first Ctrl-C."""

import asyncio
import contextlib
import signal
import sys
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from ..errors import UserError
from .client import Client
from .journal import Journal
from .prompts import Request

if TYPE_CHECKING:
    from ..config.llm_schema import Generator

FIRST_GUESS = 0.5  # tokens a character of a prompt, before the server has counted any: about twice what English has


class RequestPool:
    """Asks what the journal lacks."""

    def __init__(self, generator: "Generator", journal: Journal, title: str, budget: float | None = None) -> None:
        self.generator, self.journal, self.title, self.budget = generator, journal, title, budget
        self.client = Client(generator, self.notice)
        self.reserved = 0.0  # dollars that the requests in flight may cost at most
        self.density = 0.0  # tokens a character, the highest seen
        self.stopped: str | None = None  # why no further request begins: "budget", "interrupt"
        self.asked = self.in_flight = self.most_in_flight = 0

    @property
    def spent(self) -> float | None:
        """US dollars so far, former sessions included; None where a price is unknown."""
        return self.generator.cost(self.journal.prompt_tokens, self.journal.completion_tokens)

    def ask(self, requests: Iterable[Request], total: int) -> None:
        """Asks all that the journal lacks; the replies are in the journal then. `stopped` says why some are not.

        Raises:
            UserError: the server refuses, or stays silent; those in flight were waited for, and kept.
            KeyboardInterrupt: after those in flight have come, at the first Ctrl-C; at once at the second.
        """
        if not total:
            return
        missing = (r for r in requests if r.key not in self.journal.replies)
        try:
            asyncio.run(self._all(missing, total))
        finally:
            self.journal.close()
        if self.stopped == "interrupt":
            raise KeyboardInterrupt

    async def _all(self, requests: Iterator[Request], total: int) -> None:
        from tqdm import tqdm

        slow = 0.5 if sys.stderr.isatty() else 10.0  # a log is no terminal: a line now and then
        self.room = asyncio.Condition()
        self.failure: Exception | None = None
        with tqdm(total=total, desc=self.title, unit="reply", mininterval=slow, dynamic_ncols=True) as self.bar:
            self._show()
            async with self.client.connected():
                with self._interruptible():
                    await asyncio.gather(*(self._worker(requests) for _ in range(self.generator.concurrency)))
        if self.failure:
            raise self.failure

    async def _worker(self, requests: Iterator[Request]) -> None:
        while not (self.failure or self.stopped):
            request = next(requests, None)
            if request is None:
                return
            worst = await self._reserve(request)
            if worst is None:
                return
            try:
                self.in_flight += 1
                self.most_in_flight = max(self.most_in_flight, self.in_flight)
                reply = await self.client.ask(request)
                self.journal.append(reply)
                self.asked += 1
                self._show(1)
                if self.budget is not None:
                    self.density = max(self.density, reply.prompt_tokens / max(1, request.chars))
                    if not reply.prompt_tokens:
                        raise UserError(f"{self.generator.host} reports no token usage: a budget cannot be kept; go on without")
            except Exception as error:  # the others finish what is in flight: it is paid for
                self.failure = self.failure or error
            finally:
                self.in_flight -= 1
                if self.budget is not None:
                    async with self.room:
                        self.reserved -= worst
                        self.room.notify_all()

    async def _reserve(self, request: Request) -> float | None:
        """The dollars that a request may cost at most, set aside; None where the budget has no room for it."""
        if self.budget is None:
            return 0.0
        tokens = (1.1 * self.density or FIRST_GUESS) * request.chars
        limit = request.body[self.generator.max_tokens_field]
        worst = self.generator.cost(round(tokens), limit) or 0.0
        async with self.room:
            await self.room.wait_for(lambda: self.stopped or self._fits(worst) or self.reserved <= 1e-12)
            if self.stopped or not self._fits(worst):
                self.stopped = self.stopped or "budget"
                return None
            self.reserved += worst
        return worst

    def _fits(self, worst: float) -> bool:
        return (self.spent or 0.0) + self.reserved + worst <= (self.budget or 0.0) + 1e-12

    @contextlib.contextmanager
    def _interruptible(self) -> Iterator[None]:
        """The first Ctrl-C lets those in flight finish; the second is Python's own."""
        loop = asyncio.get_running_loop()

        def stop() -> None:
            self.stopped = "interrupt"
            loop.remove_signal_handler(signal.SIGINT)
            self.notice(f"interrupted: waiting for {self.in_flight} replies in flight (Ctrl-C again: at once)")

        with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):  # not the main thread, or no such signals
            loop.add_signal_handler(signal.SIGINT, stop)
        try:
            yield
        finally:
            with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):
                loop.remove_signal_handler(signal.SIGINT)

    def notice(self, line: str) -> None:
        """A line above the bar."""
        from tqdm import tqdm

        tqdm.write(f"{self.title}: {line}", file=sys.stderr)

    def _show(self, step: int = 0) -> None:
        cost = self.spent
        money = "cost unknown" if cost is None else f"${cost:.4f}"
        tokens = self.journal.prompt_tokens + self.journal.completion_tokens
        self.bar.set_postfix_str(f"{tokens:,} tokens, {money}", refresh=False)
        self.bar.update(step)

    def over_budget(self) -> UserError:
        return UserError(
            f"budget={self.budget:g}: ${self.spent or 0:.4f} spent, the next request might cost more: "
            "raise it, and the same command goes on"
        )
