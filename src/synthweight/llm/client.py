"""One request to an OpenAI-compatible server through the official client: retried, paced, its errors in one
line.
"""

import asyncio
import json
import logging
import os
import random
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from ..errors import UserError
from .journal import Reply
from .prompts import Body, Request

if TYPE_CHECKING:
    from ..config.llm_schema import Generator

logger = logging.getLogger(__name__)

LIBRARIES = ("openai", "httpx", "httpx2", "httpcore", "httpcore2")
FEATURE_NAMES = {  # how servers name the parameters of a feature where they refuse it
    "structured": ("response_format", "json_schema", "schema", "grammar"),
    "logprobs": ("logprobs",),
    "seed": ("seed",),
}
REFUSALS = (400, 422, 501)  # HTTP statuses for a parameter that a server does not know
TRANSIENT = (408, 409, 425, 429)  # worth a retry, as is every 5xx but 501


class Client:
    """Sends requests. The key is in here and leaves only in the header of a request."""

    def __init__(self, generator: "Generator") -> None:
        """Reads the key from the environment.

        Args:
            generator: Which server, which model, how many retries.

        Raises:
            UserError: The package `openai` is not installed, or the key is not set.
        """
        try:
            import openai  # half a second, which other commands save
        except ImportError as error:
            raise UserError("the package openai is not installed: pip install -e '.[generate]'") from error
        for name in LIBRARIES:  # below a warning they log every request, and replies that may repeat the key
            logging.getLogger(name).setLevel(logging.WARNING)
        self.openai, self.generator = openai, generator
        self.key = os.environ.get(generator.key_env, "").strip() if generator.key_env else ""
        if generator.key_env and not self.key:
            raise UserError(
                f"{generator.key_env} is not set: export your key in it (it is read from the environment alone)"
            )
        self.unsupported: set[str] = set()  # features that the server turned out not to have
        self.not_before = 0.0  # monotonic clock: a server that asks one request to wait asks all of them

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[None]:
        """Opens the connections of one event loop, and closes them."""
        g = self.generator
        # The retries are ours: the client's own do not share a server's Retry-After.
        async with self.openai.AsyncOpenAI(
            api_key=self.key or "none", base_url=g.base_url, timeout=g.timeout, max_retries=0
        ) as self.api:
            yield

    async def send(self, request: Request) -> Reply:
        """The reply to one request, after as many retries as it takes and the settings allow.

        Raises:
            UserError: Key or model refused; no reply within the retries; a wait above
                `generator.longest_wait`.
        """
        retries = 0
        while True:
            while (early := self.not_before - time.monotonic()) > 0:
                await asyncio.sleep(early)
            offered = [feature for feature in request.optional if feature not in self.unsupported]
            extra = {key: value for feature in offered for key, value in request.optional[feature].items()}
            try:
                # A limit for the whole reply: httpx's own begins anew with every byte.
                async with asyncio.timeout(self.generator.timeout):
                    return self._reply(request, await self._post({**request.body, **extra}))
            except (
                self.openai.APIStatusError,
                self.openai.APIConnectionError,
                TimeoutError,
                ValueError,
            ) as error:
                reason, wait = self._explain(error, offered)
            if wait is None:
                continue
            if retries == self.generator.retries:
                raise UserError(
                    f"{self.generator.host}: {reason}, {retries + 1} times in a row: the same command goes on later"
                )
            retries += 1
            back_off = self.generator.back_off * 2 ** (retries - 1) * random.uniform(0.5, 1.0)
            await asyncio.sleep(wait or back_off)

    async def _post(self, body: Body) -> Any:
        """The server's JSON document."""
        resource: Any = self.api.chat.completions if "messages" in body else self.api.completions
        # the settings decide which parameters there are
        response = await resource.with_raw_response.create(**body)
        return json.loads(response.content)

    def _explain(self, error: Exception, offered: list[str]) -> tuple[str, float | None]:
        """Why there is no reply, and the seconds to wait: 0 = the usual back-off, None = repeat at once with
        less.

        Args:
            error: What the client raised.
            offered: The optional features that the request made use of.

        Raises:
            UserError: A repetition would not help.
        """
        g, status = self.generator, getattr(error, "status_code", None)
        if status is None:
            if isinstance(error, TimeoutError) or "Timeout" in type(error).__name__:
                return "no reply in time", 0.0
            return "a reply that is no JSON" if isinstance(error, ValueError) else "no connection", 0.0
        message = self.scrub(" ".join(str(getattr(error, "message", "")).split()))[:200]
        if status in (401, 403):
            refused = (
                f"the key in {g.key_env}" if g.key_env else "a request without a key (generator.key_env)"
            )
            raise UserError(f"{g.host} refuses {refused} (HTTP {status})") from None
        if "insufficient_quota" in str(getattr(error, "body", "")):
            raise UserError(
                f"{g.host}: the account has no credit left (HTTP {status}): the same command goes on later"
            ) from None
        if status in TRANSIENT or (status >= 500 and status != 501):
            wait = retry_after(getattr(error, "response", None))
            if wait > g.longest_wait:
                raise UserError(
                    f"{g.host} asks to wait {wait:.0f} s (HTTP {status}), generator.longest_wait is {g.longest_wait:g}: "
                    "the same command goes on later"
                ) from None
            if wait:
                self.not_before = max(self.not_before, time.monotonic() + wait)
            return f"HTTP {status}", wait
        named = [feature for feature in offered if any(name in message for name in FEATURE_NAMES[feature])]
        unknown = status == 404 or self._no_such_model(message)
        if status in REFUSALS and offered and (named or not unknown):
            self._do_without(named or offered, status)
            return "", None
        if unknown:
            raise UserError(
                f"generator.model={g.model}: {g.host} knows no such model or address ({message})"
            ) from None
        raise UserError(f"{g.host} refuses the request (HTTP {status}: {message})") from None

    def _do_without(self, features: Iterable[str], status: int) -> None:
        """Leaves features out from now on; each is logged once, though many requests are in flight."""
        for feature in sorted(set(features) - self.unsupported):
            self.unsupported.add(feature)
            logger.warning(
                "%s does not take %s (HTTP %d): going on without", self.generator.host, feature, status
            )

    def _no_such_model(self, message: str) -> bool:
        """Whether the message is about the model; some servers answer an unknown one with 400."""
        text = message.casefold()
        reasons = ("not exist", "not found", "unknown", "no such", "invalid model")
        return "model" in text and any(reason in text for reason in reasons)

    def _reply(self, request: Request, document: Any) -> Reply:
        """What a server's document says. Raises ValueError where it is not of the API's form."""
        if not isinstance(document, dict) or "choices" not in document:
            raise ValueError("no choices")
        choice: dict[str, Any] = (document["choices"] or [{}])[0] or {}
        text = choice.get("text") if "text" in choice else (choice.get("message") or {}).get("content")
        usage = document.get("usage") or {}
        return Reply(
            key=request.key,
            text=self.scrub(text if isinstance(text, str) else "")
            .encode(errors="replace")
            .decode(),  # half a surrogate pair
            finish=choice.get("finish_reason"),
            model=self._model_name(document.get("model")),
            prompt_tokens=int(usage.get("prompt_tokens") or 0),
            completion_tokens=int(usage.get("completion_tokens") or 0),
            top=first_token(choice.get("logprobs")),
            prompt_sha256=request.sha256,
            when=datetime.now(UTC).isoformat(timespec="seconds"),
        )

    def _model_name(self, model: Any) -> str | None:
        """The server's own name of the model; of a path the last part alone, since cards are published."""
        name = self.scrub(str(model)) if model else None
        return PurePath(name).name if name and name.startswith(("/", "~")) else name

    def scrub(self, text: str) -> str:
        """A text without the key, should a server repeat it."""
        return text.replace(self.key, "[key]") if self.key else text


def first_token(logprobs: Any) -> dict[str, float] | None:
    """Log-probability of each candidate for the first token that is not blank; None where there are none.

    Args:
        logprobs: In the form of chat, of plain completions, or of llama.cpp.
    """
    if not isinstance(logprobs, dict):
        return None
    if isinstance(logprobs.get("content"), list):
        tokens = [t for t in logprobs["content"] if isinstance(t, dict)]
        tops = [
            {c["token"]: float(c["logprob"]) for c in t.get("top_logprobs") or [] if "token" in c}
            for t in tokens
        ]
        chosen = [str(t.get("token", "")) for t in tokens]
    else:
        tops = [top for top in logprobs.get("top_logprobs") or [] if isinstance(top, dict)]
        chosen = [str(t) for t in logprobs.get("tokens") or []]
    return next((top for top, token in zip(tops, chosen, strict=False) if token.strip() and top), None)


def retry_after(response: Any) -> float:
    """Seconds that a server asks to wait, 0 where it asks for none: a number or an HTTP date."""
    headers = getattr(response, "headers", {})
    try:
        if "retry-after-ms" in headers:
            return max(0.0, float(headers["retry-after-ms"]) / 1000)
        value = headers.get("retry-after", "")
        try:
            return max(0.0, float(value or 0))
        except ValueError:
            return max(0.0, (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):
        return 0.0
