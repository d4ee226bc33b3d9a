"""A row names its commit, and is dirty where that commit does not have all of the code."""

import logging
import subprocess

import pytest

from synthweight.runs import provenance


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A git repository with one commit, in place of the project's own."""
    for name in ("src", "conf", "outputs"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text("one")
    (tmp_path / "README.md").write_text("one")
    (tmp_path / "requirements.lock").write_text("one")
    git = ["git", "-C", str(tmp_path), "-c", "user.name=x", "-c", "user.email=x@x"]
    for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "one"]):
        subprocess.run([*git, *words], check=True)
    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("change", "dirty", "diff"),
    [
        (None, False, False),
        ("src/file", True, True),
        ("requirements.lock", True, True),
        ("conf/new", True, False),
        ("sweeps/new.yaml", True, False),
        ("README.md", False, False),
        ("outputs/file", False, False),
        ("outputs/new", False, False),
        ("data/new.jsonl", False, False),
    ],
)
def test_dirty_means_that_the_commit_lacks_code(checkout, caplog, change, dirty, diff):
    if change is not None:
        (checkout / change).parent.mkdir(exist_ok=True)
        (checkout / change).write_text("two")
    provenance.code_version.cache_clear()
    with caplog.at_level(logging.WARNING):
        found = provenance.code_version()
    provenance.code_version.cache_clear()
    head = subprocess.run(
        ["git", "-C", str(checkout), "rev-parse", "HEAD"], capture_output=True, text=True
    ).stdout.strip()
    assert (found["commit"], found["dirty"], found["diff"] is not None) == (head, dirty, diff)
    assert ("uncommitted code" in caplog.text) == dirty


def test_without_git_there_is_no_commit(checkout, monkeypatch):
    monkeypatch.setenv("PATH", "")
    provenance.code_version.cache_clear()
    found = provenance.code_version()
    provenance.code_version.cache_clear()
    assert (found["commit"], found["dirty"], found["diff"]) == (None, None, None)
