"""Chromium without a window, driven by its DevTools protocol over two pipes: opens pages, runs JavaScript, keeps errors."""

import base64
import fcntl
import json
import os
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
)
LAUNCH = "import os, sys; a, b = map(int, sys.argv[1:3]); os.dup2(a, 3); os.dup2(b, 4); os.execv(sys.argv[3], sys.argv[3:])"
NO_CHROMIUM = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: apt-get install chromium")
# its value: texts of too little contrast
CONTRAST = (Path(__file__).parent / "contrast.js").read_text(encoding="utf-8")


class Browser:
    """A running Chromium with one tab.

    Args:
        folder: For its profile.
    """

    def __init__(self, folder: Path) -> None:
        child_reads, self.writes = os.pipe()
        self.reads, child_writes = os.pipe()
        # above 3 and 4, which they become
        ends = [fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in (child_reads, child_writes)]
        self.process = subprocess.Popen(
            [sys.executable, "-c", LAUNCH, *map(str, ends), str(CHROMIUM), *FLAGS, f"--user-data-dir={folder}"],
            pass_fds=ends, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        for end in (child_reads, child_writes, *ends):
            os.close(end)
        self.count, self.unread, self.session = 0, b"", ""
        self.errors: list[str] = []  # of the open page: exceptions, console.error, what could not be loaded
        self.requests: list[str] = []  # the URLs that the open page requested
        self.loaded = False
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def close(self) -> None:
        """Ends the browser."""
        self.process.terminate()
        self.process.wait(timeout=20)
        os.close(self.writes)
        os.close(self.reads)

    def open(self, url: str, width: int = 1400, dark: bool = False) -> None:
        """Opens a page and waits until it is loaded.

        Args:
            url: Of the page.
            width: Of the window, in px.
            dark: Whether the reader prefers dark pages.
        """
        self.show(width, dark)
        self.errors, self.requests, self.loaded = [], [], False
        self.call("Page.navigate", url=url)
        while not self.loaded:
            self.event(self.read())

    def show(self, width: int, dark: bool) -> None:
        """Sets the window's width in px (below 600 a phone's) and the reader's preference for dark pages."""
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
        self.call("Emulation.setDeviceMetricsOverride", **size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def evaluate(self, script: str) -> Any:
        """The value of a JavaScript expression on the open page; a promise is waited for."""
        result = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def wait(self, condition: str, seconds: float = 10) -> None:
        """Waits until a JavaScript expression is true."""
        end = time.monotonic() + seconds
        while not self.evaluate(condition):
            assert time.monotonic() < end, f"never true: {condition}"
            time.sleep(0.05)

    def screenshot(self, path: Path, whole: bool = False) -> None:
        """Writes what the window shows, or the whole page, as PNG."""
        shot = self.call("Page.captureScreenshot", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(shot["data"]))

    def require_readable(self, url: str) -> None:
        """Opens a page wide and narrow, light and dark: it must fit the window, and its texts have contrast."""
        for width in (1400, 360):
            for dark in (False, True):
                self.open(url, width, dark)
                assert self.evaluate("document.documentElement.scrollWidth") <= width
                assert self.evaluate(CONTRAST) == []

    def call(self, method: str, **parameters: Any) -> Any:
        """The result of a command of the DevTools protocol."""
        self.count += 1
        message = {"id": self.count, "method": method, "params": parameters}
        if self.session and not method.startswith("Target."):
            message["sessionId"] = self.session
        os.write(self.writes, json.dumps(message).encode() + b"\0")
        while (answer := self.read()).get("id") != self.count:
            self.event(answer)
        assert "error" not in answer, (method, answer)
        return answer["result"]

    def read(self) -> dict[str, Any]:
        """The next message of the browser."""
        while b"\0" not in self.unread:
            ready, _, _ = select.select([self.reads], [], [], 60)
            assert ready, "Chromium does not answer"
            more = os.read(self.reads, 1 << 20)
            assert more, "Chromium has ended"
            self.unread += more
        line, _, self.unread = self.unread.partition(b"\0")
        return json.loads(line)

    def event(self, message: dict[str, Any]) -> None:
        """Keeps what the open page reports."""
        if message.get("sessionId") != self.session:
            return
        method, parameters = message.get("method"), message.get("params", {})
        if method == "Page.loadEventFired":
            self.loaded = True
        elif method == "Runtime.exceptionThrown":
            self.errors.append(str(parameters["exceptionDetails"]))
        elif method == "Runtime.consoleAPICalled" and parameters["type"] in ("error", "assert"):
            self.errors.append(str(parameters["args"]))
        elif method == "Log.entryAdded" and parameters["entry"]["level"] == "error":
            self.errors.append(f"{parameters['entry']['text']} {parameters['entry'].get('url', '')}")
        elif method == "Network.requestWillBeSent":
            self.requests.append(parameters["request"]["url"])
