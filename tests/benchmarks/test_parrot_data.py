"""The files of tweet_sentiment and hyperbole, from a made-up clone of the same shape."""

import json
import sys

import pytest

from synthweight.config.schema import ROOT
from synthweight.errors import UserError

sys.path.append(str(ROOT / "benchmarks"))
import parrot_data


@pytest.fixture
def clone(tmp_path):
    """Two folders of JSON arrays: some on one line, some pretty-printed, as in the original."""
    for folder, labels in (
        ("sentiment", ["negative", "neutral"]),
        ("hypo-l", ["hyperbole", "not hyperbole"]),
    ):
        place = tmp_path / "clone" / "data" / folder
        place.mkdir(parents=True)
        for name in ("base", "train", "test"):
            rows = [{"text": f" {name} {i}/2 ", "target": labels[i % 2]} for i in range(4)]
            (place / f"{name}.json").write_text(json.dumps(rows, indent=4 if name == "base" else None))
        texts = ["new one", "b\u00e9 \U0001f602 ", "new one ", "other"]
        rows = [
            {"text": "base 0", "target": labels[i % 2], "augmented_text": text}
            for i, text in enumerate(texts)
        ]
        for model in ("gpt-4", "llama-2-70b"):
            (place / f"balanced_{model}_augmented.json").write_text(json.dumps(rows))
    return tmp_path / "clone"


def test_texts_are_stripped_and_written_once_in_the_order_of_the_source(clone, tmp_path):
    lines = list(parrot_data.convert(clone, tmp_path / "out"))
    assert len(lines) == 10
    assert all(line.endswith("NOT the pinned data") for line in lines)  # it is made up
    read = {
        path.stem: [
            tuple(json.loads(line).values()) for line in path.read_text(encoding="utf-8").splitlines()
        ]
        for path in (tmp_path / "out" / "hyperbole").glob("*.jsonl")
    }
    assert set(read) == {"small_real", "large_real", "test", "synthetic_gpt4", "synthetic_llama2"}
    assert read["small_real"][:2] == [("base 0/2", "hyperbole"), ("base 1/2", "not_hyperbole")]
    assert len(read["large_real"]) == len(read["test"]) == 4
    assert read["synthetic_gpt4"] == [
        ("new one", "hyperbole"),
        ("bé 😂", "not_hyperbole"),
        ("other", "not_hyperbole"),
    ]


def test_a_clone_of_another_form_is_refused_in_one_line(clone, tmp_path, monkeypatch, capsys):
    (clone / "data" / "hypo-l" / "test.json").write_text('[{"text": "a", "target": 2}]')
    with pytest.raises(
        UserError, match=r"test\.json:1: target must be a string, is 2: is the clone at commit"
    ):
        list(parrot_data.convert(clone, tmp_path / "out"))
    monkeypatch.setattr(sys, "argv", ["parrot_data.py", str(tmp_path / "absent"), str(tmp_path / "out")])
    assert parrot_data.main() == 2
    assert "parrot_data: " in capsys.readouterr().err
