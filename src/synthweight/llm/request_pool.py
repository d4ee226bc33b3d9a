"""Many requests: a bounded number in flight, every reply in the journal, a bar, a budget, and what Ctrl-C
does.
"""

import asyncio
import contextlib
import logging
import signal
import sys
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from .. import progress
from ..errors import UserError
from .client import Client
from .journal import Journal
from .prompts import Request

if TYPE_CHECKING:
    from ..config.llm_schema import Generator

logger = logging.getLogger(__name__)

FIRST_GUESS = (
    0.5  # tokens a character of a prompt before the server has counted any: about twice what English has
)
ROUNDING = 1e-12  # dollars


class RequestPool:
    """Sends the requests whose replies the journal lacks.

    After `fetch`, `sent` counts the replies of this session, `most_in_flight` says how many requests were in
    flight at once at most, and `stopped` why no further request began: "budget", "interrupt", or None.
    """

    def __init__(
        self, generator: "Generator", journal: Journal, title: str, budget: float | None = None
    ) -> None:
        """Makes the client.

        Args:
            generator: Which server, which model, how many requests at once.
            journal: Where replies are written before they are used.
            title: What the bar and messages begin with.
            budget: US dollars, former sessions included; None = no limit.

        Raises:
            UserError: What `Client` refuses.
        """
        self.generator, self.journal, self.title, self.budget = generator, journal, title, budget
        self.client = Client(generator)
        self.reserved = 0.0  # dollars that the requests in flight may cost at most
        self.density = 0.0  # tokens a character, the highest seen
        self.stopped: str | None = None
        self.sent = self.in_flight = self.most_in_flight = 0

    @property
    def spent(self) -> float | None:
        """US dollars so far, former sessions included; None where a price is unknown."""
        return self.generator.cost(self.journal.prompt_tokens, self.journal.completion_tokens)

    def fetch(self, requests: Iterable[Request], total: int) -> None:
        """Puts a reply to each request into the journal, unless `stopped` says why not.

        Args:
            requests: Made one by one as they are sent; those that the journal has a reply to are passed over.
            total: How many it has none to, for the bar.

        Raises:
            UserError: The server refuses, or stays silent; replies in flight were waited for, and are in the
                journal.
            KeyboardInterrupt: After those in flight have come, at the first Ctrl-C; at once at the second.
        """
        if not total:
            return
        missing = (r for r in requests if r.key not in self.journal.replies)
        try:
            asyncio.run(self._fetch_all(missing, total))
        finally:
            self.journal.close()
        if self.stopped == "interrupt":
            raise KeyboardInterrupt

    async def _fetch_all(self, requests: Iterator[Request], total: int) -> None:
        from tqdm import tqdm
        from tqdm.contrib.logging import logging_redirect_tqdm

        interval = 0.5 if sys.stderr.isatty() else 10.0  # a log is no terminal: a line now and then
        self.room = asyncio.Condition()
        self.failure: Exception | None = None
        with (
            tqdm(
                total=total,
                desc=self.title,
                unit="reply",
                mininterval=interval,
                dynamic_ncols=True,
                disable=not progress.enabled,
            ) as self.bar,
            logging_redirect_tqdm(),
        ):
            self._update_bar(0)
            async with self.client.connect():
                with self._interruptible():
                    await asyncio.gather(*(self._worker(requests) for _ in range(self.generator.concurrency)))
        if self.failure:
            raise self.failure

    async def _worker(self, requests: Iterator[Request]) -> None:
        """Sends one request after the other, until there is none or something stops all workers."""
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
                reply = await self.client.send(request)
                self.journal.append(reply)
                self.sent += 1
                self._update_bar(1)
                if self.budget is not None:
                    self.density = max(self.density, reply.prompt_tokens / max(1, request.chars))
                    if not reply.prompt_tokens:
                        raise UserError(
                            f"{self.generator.host} reports no token usage: a budget cannot be kept; go on without"
                        )
            except Exception as error:  # the others finish what is in flight: it is paid for
                self.failure = self.failure or error
            finally:
                self.in_flight -= 1
                if self.budget is not None:
                    async with self.room:
                        self.reserved -= worst
                        self.room.notify_all()

    async def _reserve(self, request: Request) -> float | None:
        """Sets aside the dollars that a request may cost at most; None where the budget has no room for it."""
        if self.budget is None:
            return 0.0
        tokens = (1.1 * self.density or FIRST_GUESS) * request.chars
        limit = request.body[self.generator.max_tokens_field]
        worst = self.generator.cost(round(tokens), limit) or 0.0
        async with self.room:
            await self.room.wait_for(lambda: self.stopped or self._fits(worst) or self.reserved <= ROUNDING)
            if self.stopped or not self._fits(worst):
                self.stopped = self.stopped or "budget"
                return None
            self.reserved += worst
        return worst

    def _fits(self, worst: float) -> bool:
        return (self.spent or 0.0) + self.reserved + worst <= (self.budget or 0.0) + ROUNDING

    @contextlib.contextmanager
    def _interruptible(self) -> Iterator[None]:
        """The first Ctrl-C or SIGTERM lets the requests in flight finish; the second is the command's own."""
        loop = asyncio.get_running_loop()

        def stop() -> None:
            self.stopped = "interrupt"
            remove()
            logger.warning("interrupted: waiting for %d replies in flight (again: at once)", self.in_flight)

        def remove() -> None:
            while added:
                number = added.pop()
                loop.remove_signal_handler(number)
                signal.signal(number, after[number])

        after = {
            signal.SIGINT: signal.default_int_handler,
            signal.SIGTERM: signal.getsignal(signal.SIGTERM),  # asyncio would leave the system's own
        }
        added: list[signal.Signals] = []
        # not in the main thread, or a system without such signals: nothing is added, nothing to remove
        with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):
            for number in after:
                loop.add_signal_handler(number, stop)
                added.append(number)
        try:
            yield
        finally:
            remove()

    def _update_bar(self, replies: int) -> None:
        cost = self.spent
        money = "cost unknown" if cost is None else f"${cost:.4f}"
        tokens = self.journal.prompt_tokens + self.journal.completion_tokens
        self.bar.set_postfix_str(f"{tokens:,} tokens, {money}", refresh=False)
        self.bar.update(replies)

    def over_budget(self) -> UserError:
        """The error that says that the budget is used up."""
        return UserError(
            f"budget={self.budget:g}: ${self.spent or 0:.4f} spent, the next request might cost more: "
            "raise it, and the same command goes on"
        )
