"""One question to an OpenAI-compatible server, through the official client: retried, paced, its errors in one line."""

import asyncio
import json
import os
import random
import time
from collections.abc import AsyncIterator, Callable
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

SPELT = {  # how a server's complaint names the parameters of a feature
    "structured": ("response_format", "json_schema", "schema", "grammar"),
    "logprobs": ("logprobs",),
    "seed": ("seed",),
}
REFUSED = (400, 422, 501)  # what servers say to a parameter that they do not know
PASSING = (408, 409, 425, 429)  # and every 5xx but 501


class Client:
    """Sends requests; knows the key, and lets it out nowhere else."""

    def __init__(self, generator: "Generator", notice: Callable[[str], None]) -> None:
        """Raises UserError where the `openai` package or the key is not there."""
        try:
            import openai  # takes half a second: only who asks an LLM pays
        except ImportError as error:
            raise UserError("the package openai is not installed: pip install -e '.[generate]'") from error
        self.openai, self.generator, self.notice = openai, generator, notice
        self.key = os.environ.get(generator.key_env, "").strip() if generator.key_env else ""
        if generator.key_env and not self.key:
            raise UserError(f"{generator.key_env} is not set: export your key in it (it is read from the environment alone)")
        self.without: set[str] = set()  # features that the server turned out not to have
        self.not_before = 0.0  # on the monotonic clock: a server that asked one request to wait asked all

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[None]:
        """The connections of one event loop."""
        key, g = self.key or "none", self.generator
        # retries are ours: the client's own know nothing of one another when the server says wait
        async with self.openai.AsyncOpenAI(api_key=key, base_url=g.base_url, timeout=g.timeout, max_retries=0) as self.api:
            yield

    async def ask(self, request: Request) -> Reply:
        """The reply to one request, after as many retries as it takes and the settings allow.

        Raises:
            UserError: key or model refused; no answer within the retries; a wait beyond `longest_wait`.
        """
        tries = 0
        while True:
            while (early := self.not_before - time.monotonic()) > 0:
                await asyncio.sleep(early)
            offered = [feature for feature in request.optional if feature not in self.without]
            try:
                async with asyncio.timeout(self.generator.timeout):  # of the whole answer: httpx would restart it at every byte
                    found = await self._send({**request.body, **{k: v for f in offered for k, v in request.optional[f].items()}})
                return self._reply(request, found)
            except (self.openai.APIStatusError, self.openai.APIConnectionError, TimeoutError, ValueError) as error:
                reason, wait = self._understand(error, offered)
            if wait is None:
                continue
            if tries == self.generator.retries:
                raise UserError(f"{self.generator.host}: {reason}, {tries + 1} times in a row: the same command goes on later")
            tries += 1
            await asyncio.sleep(wait or self.generator.back_off * 2 ** (tries - 1) * random.uniform(0.5, 1.0))

    async def _send(self, body: Body) -> Any:
        chat = "messages" in body
        resource: Any = self.api.chat.completions if chat else self.api.completions
        # settings decide which parameters there are, so they come as a dictionary
        response = await resource.with_raw_response.create(**body)
        return json.loads(response.content)

    def _understand(self, error: Exception, offered: list[str]) -> tuple[str, float | None]:
        """Why there is no answer, and the seconds to wait: 0 = the usual back-off, None = ask again at once, with less.

        Raises:
            UserError: asking again would not help.
        """
        status = getattr(error, "status_code", None)
        if status is None:
            kind = "no answer in time" if isinstance(error, TimeoutError) or "Timeout" in type(error).__name__ else None
            broken = "an answer that is no JSON" if isinstance(error, ValueError) else "no connection"
            return kind or broken, 0.0
        said = self.scrub(" ".join(str(getattr(error, "message", "")).split()))[:200]
        who = self.generator.host
        if status in (401, 403):
            how = (
                f"the key in {self.generator.key_env}"
                if self.generator.key_env
                else "a request without a key (generator.key_env)"
            )
            raise UserError(f"{who} refuses {how} (HTTP {status})") from None
        if "insufficient_quota" in str(getattr(error, "body", "")):
            raise UserError(f"{who}: the account has no credit left (HTTP {status}): the same command goes on later") from None
        if status in PASSING or (status >= 500 and status != 501):
            wait = retry_after(getattr(error, "response", None))
            if wait > self.generator.longest_wait:
                raise UserError(
                    f"{who} asks to wait {wait:.0f} s (HTTP {status}), generator.longest_wait is "
                    f"{self.generator.longest_wait:g}: the same command goes on later"
                ) from None
            if wait:
                self.not_before = max(self.not_before, time.monotonic() + wait)
            return f"HTTP {status}", wait
        named = [f for f in offered if any(word in said for word in SPELT[f])]
        unknown = status == 404 or self._no_such_model(said)
        if status in REFUSED and offered and (named or not unknown):
            for feature in sorted(set(named or offered) - self.without):
                self.without.add(feature)
                self.notice(f"{who} does not take {feature} (HTTP {status}): going on without")
            return "", None
        if unknown:
            raise UserError(f"generator.model={self.generator.model}: {who} knows no such model or address ({said})") from None
        raise UserError(f"{who} refuses the request (HTTP {status}: {said})") from None

    def _no_such_model(self, said: str) -> bool:
        text = said.casefold()
        return "model" in text and any(word in text for word in ("not exist", "not found", "unknown", "no such", "invalid model"))

    def _reply(self, request: Request, found: Any) -> Reply:
        """Raises ValueError where the answer is not of the API's shape."""
        if not isinstance(found, dict) or "choices" not in found:
            raise ValueError("no choices")
        choice: dict[str, Any] = (found["choices"] or [{}])[0] or {}
        text = choice.get("text") if "text" in choice else (choice.get("message") or {}).get("content")
        usage = found.get("usage") or {}
        return Reply(
            key=request.key,
            text=self.scrub(text if isinstance(text, str) else "").encode(errors="replace").decode(),  # half a surrogate pair
            finish=choice.get("finish_reason"),
            model=self._served_as(found.get("model")),
            prompt_tokens=int(usage.get("prompt_tokens") or 0),
            completion_tokens=int(usage.get("completion_tokens") or 0),
            top=first_token(choice.get("logprobs")),
            prompt_sha256=request.sha256,
            when=datetime.now(UTC).isoformat(timespec="seconds"),
        )

    def _served_as(self, model: Any) -> str | None:
        """The server's own word for the model; of a path its last part: it is nobody's business where a file lies."""
        name = self.scrub(str(model)) if model else None
        return PurePath(name).name if name and name.startswith(("/", "~")) else name

    def scrub(self, text: str) -> str:
        """Without the key, should a server repeat it."""
        return text.replace(self.key, "[key]") if self.key else text


def first_token(found: Any) -> dict[str, float] | None:
    """The candidates for the first token that is not blank, in the forms of chat, of plain completions, and of llama.cpp."""
    if not isinstance(found, dict):
        return None
    if isinstance(found.get("content"), list):
        tokens = [t for t in found["content"] if isinstance(t, dict)]
        tops = [{c["token"]: float(c["logprob"]) for c in t.get("top_logprobs") or [] if "token" in c} for t in tokens]
        chosen = [str(t.get("token", "")) for t in tokens]
    else:
        tops = [top for top in found.get("top_logprobs") or [] if isinstance(top, dict)]
        chosen = [str(t) for t in found.get("tokens") or []]
    return next((top for top, token in zip(tops, chosen, strict=False) if token.strip() and top), None)


def retry_after(response: Any) -> float:
    """Seconds that the server asks to wait, 0 where it asks for none: a number or an HTTP date."""
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
