"""Where a row came from: code, versions, machine, command, time. It never enters an id."""

import hashlib
import os
import platform
import shlex
import subprocess
import sys
from datetime import UTC, datetime
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[3]
COMMAND = "SYNTHWEIGHT_COMMAND"
CODE = ("src", "conf", "sweeps", "data", "requirements.lock")
PACKAGES = (
    "torch",
    "pytorch-lightning",
    "transformers",
    "tokenizers",
    "hydra-core",
    "omegaconf",
    "numpy",
    "scikit-learn",
)


def now() -> str:
    """UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


@lru_cache(maxsize=1)
def code() -> dict[str, Any]:
    """The commit, whether code or configuration differ from it, and the SHA-256 of that difference and of the lock file."""
    commit = _git("rev-parse", "HEAD")
    diff = _git("diff", "HEAD", "--", *CODE)
    dirty = _git("status", "--porcelain", "--", *CODE)
    lock = ROOT / "requirements.lock"
    return {
        "commit": commit,
        "dirty": bool(dirty) if dirty is not None else None,
        "diff": hashlib.sha256(diff.encode()).hexdigest() if diff else None,
        "lock": hashlib.sha256(lock.read_bytes()).hexdigest() if lock.is_file() else None,
        "versions": {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
    }


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def command() -> list[str]:
    """What was typed (the environment carries it to a launcher's processes), the home folder as ~."""
    typed = shlex.split(os.environ.get(COMMAND, "")) or ["python", *sys.argv[:1]]
    return [word.replace(os.path.expanduser("~"), "~") for word in typed]
