"""What the audit finds in examples that were made for it."""

import numpy as np
import pytest

from synthweight.data.examples import Example
from synthweight.errors import UserError
from synthweight.workbench import audit

LABELS = ("bad", "good")
TEXTS = {
    "fine": ("the camera takes sharp pictures", "good"),
    "twin": ("The camera takes sharp pictures!", "bad"),
    "first": ("a sturdy tripod that folds into any small bag", "good"),
    "near": ("a sturdy tripod that folds into any small bags", "good"),
    "doubted": ("it broke after a day", "good"),
    "far": ("quarterly earnings beat expectations", "bad"),
    "plain": ("the strap came loose", "bad"),
    "known": ("it stopped working.", "bad"),
}


@pytest.fixture
def rows():
    synthetic = [
        Example(f"synthetic:{i}", text, None, label) for i, (text, label) in enumerate(TEXTS.values())
    ]
    real = [
        Example(f"real:{i}", text, None, "bad")
        for i, text in enumerate(["It stopped working", "the lens is dirty"])
    ]
    p_good = np.array([0.9, 0.6, 0.8, 0.8, 0.1, 0.3, 0.2, 0.1])
    log_probs = np.log(np.stack([1 - p_good, p_good], axis=1))
    near, far = np.array([1.0, 0.0]), np.array([0.0, 1.0])
    embeddings = (
        np.stack([far if name == "far" else near for name in TEXTS]),
        np.stack([near, [0.9, np.sqrt(1 - 0.81)]]),
    )
    weights = {e.id: 0.5 for e in synthetic[:-1]}
    return audit.audit(synthetic, real, list(TEXTS), LABELS, log_probs, weights, embeddings)


def test_each_kind_of_trouble_is_found(rows):
    verdicts = {row.id: row.verdict for row in rows}
    assert verdicts == {
        "fine": "conflict", "twin": "conflict", "first": "fine", "near": "near-duplicate", "doubted": "doubtful label",
        "far": "unlike real", "plain": "fine", "known": "real text",
    }  # fmt: skip
    by_id = {row.id: row for row in rows}
    assert by_id["first"].duplicate_group == by_id["near"].duplicate_group != by_id["fine"].duplicate_group
    assert by_id["plain"].duplicate_group is None
    assert by_id["known"].weight is None
    assert (by_id["doubted"].checker_label, round(by_id["doubted"].p_checker_label, 6)) == ("bad", 0.9)


def test_the_least_supported_label_comes_first(rows):
    assert [row.p_label for row in rows] == sorted(row.p_label for row in rows)
    assert rows[0].id == "doubted"


def test_what_is_written_is_read_again(rows, tmp_path):
    audit.write(tmp_path / "a.csv", rows)
    again = audit.read(tmp_path / "a.csv")
    assert [(r.id, r.text, r.label, r.weight, r.verdict, r.duplicate_group) for r in again] == [
        (r.id, r.text, r.label, r.weight, r.verdict, r.duplicate_group) for r in rows
    ]
    audit.write(tmp_path / "b.csv", rows, texts=False)
    assert not any(text in (tmp_path / "b.csv").read_text() for text, _ in TEXTS.values())
    assert [r.text for r in audit.read(tmp_path / "b.csv")] == [None] * len(rows)


def test_a_file_that_is_no_audit_is_refused(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        audit.read(tmp_path / "none.csv")
    (tmp_path / "bad.csv").write_text("id,label\n1,good\n")
    with pytest.raises(UserError, match="damaged"):
        audit.read(tmp_path / "bad.csv")


def test_the_summary_counts_and_lists(rows):
    lines = audit.summary(rows, top=1)
    assert "8 synthetic examples" in lines
    assert "it broke after a day" in lines
    assert "the strap came loose" not in lines
