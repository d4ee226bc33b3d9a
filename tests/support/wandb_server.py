"""A small W&B on loopback: answers what the client asks, keeps what it sends, or refuses every key."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

KEY = "k" * 40


class Quiet(ThreadingHTTPServer):
    def handle_error(self, *_: object) -> None:
        """A client that is killed hangs up."""


class Server:
    """Runs and views by name.

    `refuse`: the HTTP status that every request gets. `url`: for WANDB_BASE_URL.
    """

    def __init__(self, refuse: int | None = None) -> None:
        self.refuse, self.asked, self.runs, self.views = refuse, [], {}, {}
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                answer = json.dumps(outer.answer(self.path, body)).encode()
                self.send_response(outer.refuse or 200)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            do_GET = do_PUT = do_POST

            def log_message(self, *_: object) -> None:
                pass

        self.http = Quiet(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.http.shutdown()
        self.http.server_close()

    def answer(self, path: str, body: bytes) -> dict[str, Any]:
        if path.endswith("/file_stream"):
            return self.stream(path.split("/")[-2], json.loads(body))
        if path != "/graphql":
            return {}
        asked = json.loads(body)
        name = asked.get("operationName") or asked["query"].replace("{", "(").split("(")[0].split()[-1]
        self.asked.append(name)
        if self.refuse:
            return {"errors": [{"message": "user is not logged in"}], "data": {"viewer": None}}
        return {"data": getattr(self, name, lambda _: {})(asked.get("variables") or {})}

    def stream(self, run_id: str, sent: dict[str, Any]) -> dict[str, Any]:
        run = self.runs[run_id]
        for name, file in sent.get("files", {}).items():
            lines = run["files"].setdefault(name, {})
            lines |= {
                file["offset"] + i: json.loads(text)
                for i, text in enumerate(file["content"])
                if name != "output.log"
            }
        if sent.get("complete"):
            run["state"] = "finished" if sent["exitcode"] == 0 else "failed"
        return {}

    def Viewer(self, _: dict[str, Any]) -> dict[str, Any]:
        viewer = {
            "id": "u",
            "entity": "me",
            "username": "me",
            "email": "me@localhost",
            "flags": "{}",
            "teams": {"edges": []},
        }
        return {"viewer": viewer}

    GetDefaultEntity = Viewer

    def UpsertBucket(self, given: dict[str, Any]) -> dict[str, Any]:
        run = self.runs.setdefault(given["name"], {"files": {}, "state": "running"})
        run |= {key: value for key, value in given.items() if value is not None}
        project = {"id": "p", "name": given["project"], "entity": {"id": "e", "name": "me"}}
        bucket = {
            "id": "x",
            "name": given["name"],
            "displayName": run["displayName"],
            "config": run["config"],
            "project": project,
        }
        return {"upsertBucket": {"bucket": bucket | {"historyLineCount": 0}, "inserted": True}}

    def RunResumeStatus(self, given: dict[str, Any]) -> dict[str, Any]:
        run = self.runs.get(given["name"])
        if run is None:
            return {"model": None}
        summary = run["files"].get("wandb-summary.json", {})
        lines = run["files"].get("wandb-history.jsonl", {})
        said = {
            "id": "x",
            "name": given["name"],
            "summaryMetrics": json.dumps(list(summary.values())[-1] if summary else {}),
        }
        said |= {
            "displayName": run["displayName"],
            "config": run["config"],
            "tags": run["tags"],
            "wandbConfig": '{"t": 1}',
        }
        said |= {"logLineCount": 0, "historyLineCount": len(lines), "eventsLineCount": 0, "eventsTail": "[]"}
        return {
            "model": {
                "id": "p",
                "name": given["project"],
                "entity": {"id": "e", "name": "me"},
                "bucket": said
                | {"historyTail": json.dumps([json.dumps(list(lines.values())[-1])] if lines else [])},
            }
        }

    def CreateRunFiles(self, given: dict[str, Any]) -> dict[str, Any]:
        files = [{"name": name, "uploadUrl": f"{self.url}/upload/{name}"} for name in given["files"]]
        return {"createRunFiles": {"runID": "x", "uploadHeaders": [], "files": files}}

    def Run(self, given: dict[str, Any]) -> dict[str, Any]:
        if given["name"] not in self.runs:
            return {"project": None}
        run = self.runs[given["name"]]
        user = {"name": "me", "username": "me"}
        said = {
            "id": "x",
            "name": given["name"],
            "state": run["state"],
            "config": run["config"],
            "tags": run["tags"],
            "user": user,
        }
        return {"project": {"run": said | {"projectId": "1", "historyLineCount": 0, "summaryMetrics": "{}"}}}

    def UpsertView2(self, given: dict[str, Any]) -> dict[str, Any]:
        self.views[given["name"]] = given
        return {
            "upsertView": {"view": {"id": given.get("id") or f"view{len(self.views)}", "name": given["name"]}}
        }
