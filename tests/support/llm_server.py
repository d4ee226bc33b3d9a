"""An OpenAI-compatible server on loopback that misbehaves on demand.

It is real HTTP; only the model is a function.
"""

import hashlib
import json
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

KEY = "sk-test-0123456789abcdef"
Body = dict[str, Any]


@dataclass
class Say:
    """What becomes of one request: an answer, and how it is spoilt."""

    text: str = ""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    error: str = ""
    delay: float = 0.0  # seconds before anything is said
    drip: float = 0.0  # seconds between the bytes of the answer
    cut: bool = False  # the connection dies in the middle of the answer
    broken: bool = False  # the answer is half a JSON document
    finish: str = "stop"
    top: dict[str, float] | None = None


def prompt_of(body: Body) -> str:
    return body["prompt"] if "prompt" in body else "\n".join(m["content"] for m in body["messages"])


def wanted(body: Body) -> str:
    """The label that a request of `generate` asks for."""
    text = prompt_of(body)
    return (
        text.split('of the label "')[1].split('"')[0]
        if "messages" in body
        else text.rpartition("Label: ")[2].split("\n")[0]
    )


def fresh(body: Body) -> str:
    """A text of its own for every request, and the same one for the same request."""
    digest = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
    return f"generated {digest[:8]} {digest[8:16]}"


def obliging(body: Body, number: int) -> Say:
    """What a good model says."""
    if "prompt" in body:
        return Say(f" {fresh(body)}\n\nLabel:")
    return Say(json.dumps({"label": wanted(body), "text": fresh(body)}))


def _json(label: str, text: str) -> str:
    return json.dumps({"label": label, "text": text}, ensure_ascii=False)


# how models put an example, asked for a JSON object: label, text → reply
WRITING: dict[str, Callable[[str, str], str]] = {
    "plain": _json,
    "escaped": lambda label, text: json.dumps({"label": label, "text": text}),
    "keys in capitals": lambda label, text: json.dumps({"Label": label, "TEXT": text}),
    "text first": lambda label, text: json.dumps({"text": text, "label": label}),
    "smart quotes": lambda label, text: f"{{“label”: “{label}”, “text”: “{text}”}}",
    "German quotes": lambda label, text: f"{{„label“: „{label}“, „text“: „{text}“}}",
    "single quotes": lambda label, text: f"{{'label': '{label}', 'text': '{text}'}}",
    "smart quotes around the value": lambda label, text: json.dumps({"label": f"“{label}”", "text": text}),
    "a quotation inside": lambda label, text: f'{{"label": "{label}", "text": "She said "no", {text}"}}',
    "a trailing comma": lambda label, text: f'{{"label": "{label}", "text": "{text}",}}',
    "on several lines": lambda label, text: f'{{\n  "Label" : "{label}",\n  "Text" : "{text}"\n}}',
    "in a code fence": lambda label, text: f"Sure! Here it is:\n```json\n{_json(label, text)}\n```\nEnjoy!",
    "a label with a full stop": lambda label, text: _json(f"{label}.", text),
    "a label in capitals": lambda label, text: _json(label.upper(), text),
    "after a thought": lambda label, text: (
        f'<think>{{"label": "x", "text": "y"}}</think>{_json(label, text)}'
    ),
    "in the template's lines": lambda label, text: f"Label: {label}\nText: {text}",
    "in bold lines": lambda label, text: f"**Label:** {label}\n**Text:** {text}",
    "with full-width colons": lambda label, text: f"Label：{label}\nText：{text}",
}

ANSWERING: dict[str, Callable[[str], str]] = {  # how models put a label, asked for it alone
    "plain": str,
    "in capitals": str.upper,
    "quoted": lambda label: f"“{label}”",
    "with a full stop": lambda label: f"{label}.",
    "in bold": lambda label: f"**{label}**",
    "in a list": lambda label: f"- {label}",
    "in a sentence": lambda label: f"The text is {label}, I think.",
    "with a field's name": lambda label: f"Label: {label}",
    "in JSON": lambda label: json.dumps({"Label": label}),
    "with an explanation": lambda label: f"{label}\n\nThe words show it.",
    "after a thought": lambda label: f"<think>Is it another one?</think>\n{label}",
}


class Server:
    """Serves `answer(body, number)` until closed, and remembers all that it was asked."""

    def __init__(self, answer: Callable[[Body, int], Say] = obliging) -> None:
        self.answer, self.lock = answer, threading.Lock()
        self.asked: list[Body] = []
        self.keys: set[str] = set()
        self.delivered: Counter[int] = Counter()  # whole good answers, by the request's seed
        self.times: list[float] = []
        self.in_flight = self.most_in_flight = 0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with outer.lock:
                    outer.asked.append(body)
                    outer.times.append(time.monotonic())
                    outer.keys.add(self.headers["Authorization"])
                    number = len(outer.asked)
                    outer.in_flight += 1
                    outer.most_in_flight = max(outer.most_in_flight, outer.in_flight)
                try:
                    outer.serve(self, body, outer.answer(body, number))
                except OSError:
                    self.close_connection = True  # the client went away: it had waited long enough

            def log_message(self, *_: Any) -> None:
                pass

        class Quiet(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 64

            def handle_error(self, *_: Any) -> None:
                pass

        self.http = Quiet(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}/v1"
        self.thread = threading.Thread(target=self.http.serve_forever, args=(0.02,), daemon=True)
        self.thread.start()

    def serve(self, handler: BaseHTTPRequestHandler, body: Body, say: Say) -> None:
        time.sleep(say.delay)
        data = json.dumps(
            {"error": {"message": say.error}} if say.status != 200 else self.document(body, say)
        ).encode()
        if say.broken:
            data = data[: len(data) // 2]
        with self.lock:
            self.in_flight -= 1  # before the answer goes out: the client may ask again at once
        handler.send_response(say.status)
        for name, value in {
            "Content-Type": "application/json",
            "Content-Length": str(len(data)),
            **say.headers,
        }.items():
            handler.send_header(name, value)
        handler.end_headers()
        if say.cut:
            handler.wfile.write(data[:5])
            handler.wfile.flush()
            handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            handler.connection.close()
            raise ConnectionResetError
        if say.drip:
            for byte in data:
                handler.wfile.write(bytes([byte]))
                handler.wfile.flush()
                time.sleep(say.drip)
        else:
            handler.wfile.write(data)
        if say.status == 200 and not say.broken:
            with self.lock:
                self.delivered[body.get("seed", -1)] += 1

    def document(self, body: Body, say: Say) -> Body:
        choice: Body = {"index": 0, "finish_reason": say.finish}
        if "prompt" in body:
            choice["text"] = say.text
            if say.top and "logprobs" in body:
                choice["logprobs"] = {"tokens": [next(iter(say.top))], "top_logprobs": [say.top]}
        else:
            choice["message"] = {"role": "assistant", "content": say.text}
            if say.top and "logprobs" in body:
                top = [{"token": token, "logprob": value} for token, value in say.top.items()]
                choice["logprobs"] = {"content": [{**top[0], "top_logprobs": top}]}
        usage = {"prompt_tokens": len(prompt_of(body)) // 4, "completion_tokens": 10, "total_tokens": 0}
        return {
            "id": "x",
            "object": "y",
            "created": 0,
            "model": "served",
            "choices": [choice],
            "usage": usage,
        }

    @property
    def prompts(self) -> list[str]:
        return [prompt_of(body) for body in self.asked]

    def close(self) -> None:
        self.http.shutdown()
        self.http.server_close()
        self.thread.join()


@contextmanager
def serving(answer: Callable[[Body, int], Say] = obliging):
    server = Server(answer)
    try:
        yield server
    finally:
        server.close()
