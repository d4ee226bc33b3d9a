"""What `synthweight generate` adds to the waiting for a server: 16 requests in flight, a server that answers
in 50 ms.

    python benchmarks/generate_overhead.py [--n 3008]

Three times over the same requests: the floor (n / 16 · 50 ms, no program at all), the official client alone
(16 workers that ask and throw the reply away), and ours (prompts, retries, journal, progress; then judgement,
file and card too). The server is a process of its own; on two cores it takes time from both sides alike, so
ours is held against the client alone as well.
"""

import argparse
import asyncio
import contextlib
import io
import json
import multiprocessing
import os
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from statistics import median

from synthweight.config import compose
from synthweight.config.llm_schema import Generate
from synthweight.config.schema import CONF
from synthweight.llm import few_shot, generate
from synthweight.llm.prompts import PromptBuilder, Request
from synthweight.llm.request_pool import RequestPool
from synthweight.llm.topics import Topics

LATENCY, WIDTH, ROUNDS = 0.05, 16, 3


def serve(port: "multiprocessing.Queue[int]") -> None:
    """A server with next to no work of its own: HTTP/1.1 by hand, one coroutine a connection."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(
                    next(x for x in head.lower().split(b"\r\n") if x.startswith(b"content-length:")).split(
                        b":"
                    )[1]
                )
                body = json.loads(await reader.readexactly(length))
                due = asyncio.get_running_loop().time() + LATENCY
                text = f" a text of its own {body['seed']}"
                choice = {"index": 0, "text": text, "finish_reason": "stop", "logprobs": None}
                answer = {
                    "id": "x",
                    "object": "text_completion",
                    "created": 0,
                    "model": "m",
                    "choices": [choice],
                }
                data = json.dumps(
                    answer | {"usage": {"prompt_tokens": 9, "completion_tokens": 9, "total_tokens": 18}}
                ).encode()
                await asyncio.sleep(due - asyncio.get_running_loop().time())
                writer.write(
                    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
                    % len(data)
                    + data
                )

    async def forever() -> None:
        server = await asyncio.start_server(talk, "127.0.0.1", 0)
        port.put(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(forever())


def bare(settings: Generate, requests: list[Request]) -> float:
    """Seconds of the official client alone."""
    import openai

    async def all_of_them() -> float:
        waiting = iter(requests)

        async def worker() -> None:
            for request in waiting:
                await client.completions.with_raw_response.create(**request.body, **request.optional["seed"])

        g = settings.generator
        async with openai.AsyncOpenAI(
            api_key="none", base_url=g.base_url, timeout=g.timeout, max_retries=0
        ) as client:
            start = time.perf_counter()
            await asyncio.gather(*(worker() for _ in range(WIDTH)))
            return time.perf_counter() - start

    return asyncio.run(all_of_them())


def ours(settings: Generate) -> tuple[float, float]:
    """Seconds of the asking, and of a whole generation from the settings to the card."""
    asking: list[float] = []
    plain = RequestPool.fetch

    def timed(self: RequestPool, requests: Iterable[Request], total: int) -> None:
        start = time.perf_counter()
        plain(self, requests, total)
        asking.append(time.perf_counter() - start)

    start = time.perf_counter()
    RequestPool.fetch = timed  # type: ignore[method-assign]
    try:
        with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
            outcome = generate.generate(settings)
    finally:
        RequestPool.fetch = plain  # type: ignore[method-assign]
    assert (outcome.kept, outcome.most_in_flight) == (settings.n, WIDTH)
    return sum(asking), time.perf_counter() - start


def main(n: int) -> None:
    port: multiprocessing.Queue[int] = multiprocessing.Queue()
    server = multiprocessing.Process(target=serve, args=(port,), daemon=True)
    server.start()
    url = f"http://127.0.0.1:{port.get()}/v1"
    times: dict[str, list[float]] = {
        "the official client alone": [],
        "ours: asking": [],
        "ours: with file and card": [],
    }
    with tempfile.TemporaryDirectory() as scratch, compose.offline(CONF):
        for i in range(ROUNDS):
            settings = compose.Composer("generate").generate(
                ["generator=local_base", "generator.model=m", f"generator.base_url={url}", f"generator.concurrency={WIDTH}",
                 f"n={n}", "attempts=1", f"seed={i}", f"out={Path(scratch) / str(i)}"]
            )  # fmt: skip
            pool = few_shot.load_pool(settings)
            prompts, labels = PromptBuilder(settings.generator, pool), generate.assign_labels(settings, pool)
            requests = [
                generate.build_request(settings, pool, prompts, labels[index], index, 0, 1, Topics((), {}))
                for index in range(n)
            ]
            times["the official client alone"].append(bare(settings, requests))
            for name, seconds in zip(list(times)[1:], ours(settings), strict=True):
                times[name].append(seconds)
    server.terminate()
    floor = n / WIDTH * LATENCY
    print(f"{n} requests, {WIDTH} in flight, a server that answers in {1000 * LATENCY:.0f} ms; {os.cpu_count()} cores; "
          f"median of {ROUNDS} (range)")  # fmt: skip
    print(f"{'the floor':28} {floor:6.2f} s")
    for name, seconds in times.items():
        over = median(seconds) / floor - 1
        print(
            f"{name:28} {median(seconds):6.2f} s ({min(seconds):.2f}–{max(seconds):.2f}), {over:+.1%} to the floor"
        )
    alone = times["the official client alone"]
    for name in list(times)[1:]:
        pairs = [b / a - 1 for a, b in zip(alone, times[name], strict=True)]
        print(
            f"{name + ', beside the client':44} {median(pairs):+.1%} ({min(pairs):+.1%} to {max(pairs):+.1%})"
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--n", type=int, default=3008, help="requests of each kind")
    main(parser.parse_args().n)
