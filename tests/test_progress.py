"""Bars on a pseudo-terminal, and nothing of them elsewhere."""

import os
import re
import sys
import threading
import time
from contextlib import contextmanager

from synthweight import progress
from synthweight.runs import run


@contextmanager
def terminal(monkeypatch, enabled: bool = True):
    """Within it, standard output is a terminal; the list that it gives holds afterwards what was shown."""
    main, terminal = os.openpty()
    received, shown = [], []

    def read():
        while True:
            try:
                received.append(os.read(main, 4096))
            except OSError:  # the other end is closed
                return

    reader = threading.Thread(target=read)
    reader.start()
    with monkeypatch.context() as patched, os.fdopen(terminal, "w", encoding="utf-8") as out:
        patched.setenv("COLUMNS", "100")
        patched.setenv("TERM", "xterm")
        patched.setattr(sys, "stdout", out)
        patched.setattr(progress, "enabled", enabled)
        yield shown
    reader.join()
    os.close(main)
    shown.append(re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", b"".join(received).decode()))


def test_a_terminal_shows_the_runs_of_a_sweep_and_the_steps_of_each_epoch(bound, monkeypatch):
    with terminal(monkeypatch) as shown, progress.progress_bar("runs", 2) as bar:
        run.train(bound("loss=ce"))
        bar.update(1)
        progress._display.refresh()
    assert re.search(r"epoch [12]/2, steps \S+ +\d/6", shown[0])
    assert re.search(r"runs \S+ +0/2", shown[0])
    assert re.search(r"runs \S+ +1/2 +(\d+ s each|[\d.]+/s), 0:\d\d:\d\d left", shown[0])
    assert progress._display is None


def test_quiet_shows_nothing_on_a_terminal(monkeypatch):
    with terminal(monkeypatch, enabled=False) as shown, progress.progress_bar("runs", 2) as bar:
        bar.update(1)
    assert shown == [""]


def test_nothing_is_shown_elsewhere(capsys, monkeypatch):
    monkeypatch.setattr(progress, "enabled", True)
    with progress.progress_bar("runs", 2) as bar:
        bar.update(1)
        bar.restart("epochs", 3)
    assert capsys.readouterr() == ("", "")


def test_the_pace_is_in_the_unit_that_reads_best():
    end = time.monotonic() + 100
    rates = {0.08: "12.5/s, 0:01:40 left", 4.0: "4 s each, 0:01:40 left", 300: "5 min each, 0:01:40 left"}
    assert {pace: progress.pace_text(pace, end) for pace in rates} == rates
    assert progress.pace_text(0.5, end - 200) == "2.0/s, 0:00:00 left"
    assert progress.pace_text(None, None) == ""
