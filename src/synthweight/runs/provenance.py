"""Where a row came from: code, versions, machine, command, time. None of it enters a run's id."""

import hashlib
import logging
import os
import platform
import shlex
import subprocess
import sys
from datetime import UTC, datetime
from functools import lru_cache
from importlib.metadata import version
from typing import Any

from ..config.schema import ROOT

COMMAND = "SYNTHWEIGHT_COMMAND"
TRACKED = ("src", "conf", "sweeps", "data", "requirements.lock")  # changes in these files make a row dirty
UNTRACKED = ("src", "conf", "sweeps")  # and so do new files in these folders
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

logger = logging.getLogger(__name__)


def utc_now() -> str:
    """The time in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


@lru_cache(maxsize=1)
def code_version() -> dict[str, Any]:
    """The code that this process runs, as a row records it; warns once where it is not a commit's.

    Returns:
        commit: of the checkout. dirty: whether a tracked file of `TRACKED` differs from it or `UNTRACKED` has
            a new file.
        diff: SHA-256 of the difference of tracked files, None where there is none. lock: SHA-256 of
            requirements.lock.
        versions: of Python and the main packages. Outside a git checkout the first two are None.
    """
    commit = _git("rev-parse", "HEAD")
    diff = _git("diff", "HEAD", "--", *TRACKED)
    new = _git("ls-files", "--others", "--exclude-standard", "--", *UNTRACKED)
    if diff or new:
        changed = "tracked files differ" if diff else f"{new.splitlines()[0] if new else ''} is not committed"
        logger.warning(
            "uncommitted code (%s): rows made now are marked dirty, commit %.7s does not reproduce them",
            changed,
            commit,
        )
    lock = ROOT / "requirements.lock"
    return {
        "commit": commit,
        "dirty": None if None in (commit, diff, new) else bool(diff or new),
        "diff": hashlib.sha256(diff.encode()).hexdigest() if diff else None,
        "lock": hashlib.sha256(lock.read_bytes()).hexdigest() if lock.is_file() else None,
        "versions": {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
    }


def describe_commit() -> str | None:
    """The checkout's commit, short, with `-dirty` where a tracked file differs from it; None outside a checkout."""
    return _git("describe", "--always", "--dirty", "--abbrev=10", "--exclude=*")


def _git(*arguments: str) -> str | None:
    """The output of a git command in the checkout, or None where it fails."""
    try:
        done = subprocess.run(
            ["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, timeout=30
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def command() -> list[str]:
    """The command as typed (the environment carries it to a launcher's processes), with the home folder as ~."""
    typed = shlex.split(os.environ.get(COMMAND, "")) or ["python", *sys.argv[:1]]
    return [word.replace(os.path.expanduser("~"), "~") for word in typed]
