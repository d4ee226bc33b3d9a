"""A small Hugging Face hub on loopback: takes repositories, commits and large files of one token."""

import base64
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TOKEN = "hf_" + "t" * 34


class HubServer:
    """`url`: for HF_ENDPOINT; `files`: committed, by path; `repositories`: whether each is private."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.repositories: dict[str, bool] = {}
        self.large: dict[str, bytes] = {}  # by SHA-256
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                known = (
                    self.path.startswith("/large/") or self.headers.get("authorization") == f"Bearer {TOKEN}"
                )
                reply = outer.answer(self.path, body) if known else {"error": "Invalid token"}
                answer = json.dumps(reply).encode()
                self.send_response(200 if known else 401)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            do_PUT = do_GET = do_POST

            def log_message(self, *_: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def answer(self, path: str, body: bytes) -> dict:
        if path.startswith("/large/"):
            self.large[path.removeprefix("/large/")] = body
            return {}
        if path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked['organization']}/{asked['name']}" if asked.get("organization") else asked["name"]
            self.repositories[name] = asked.get("private", False) or asked.get("visibility") == "private"
            return {"url": f"{self.url}/{name}", "name": name}
        if "/preupload/" in path:
            files = json.loads(body)["files"]
            kind = {True: "lfs", False: "regular"}
            return {
                "files": [
                    {
                        "path": f["path"],
                        "uploadMode": kind[f["path"].endswith((".safetensors", ".parquet"))],
                        "shouldIgnore": False,
                    }
                    for f in files
                ]
            }
        if path.endswith("/objects/batch"):
            objects = json.loads(body)["objects"]
            actions = [{"upload": {"href": f"{self.url}/large/{o['oid']}"}} for o in objects]
            return {
                "transfer": "basic",
                "objects": [o | {"actions": a} for o, a in zip(objects, actions, strict=True)],
            }
        if "/commit/" in path:
            for line in map(json.loads, body.decode().splitlines()):
                value = line["value"]
                if line["key"] == "file":
                    self.files[value["path"]] = base64.b64decode(value["content"])
                elif line["key"] == "lfsFile":
                    self.files[value["path"]] = self.large[value["oid"]]
            repository = path.split("/api/models/")[1].split("/commit/")[0]
            return {"commitUrl": f"{self.url}/{repository}/commit/{'0' * 40}", "commitOid": "0" * 40}
        return {}  # the card's metadata: nothing to object

    def close(self) -> None:
        self.http.shutdown()
        self.http.server_close()
