"""`describe` as a command, and its page."""

import json
import re

import pytest

from support.cli import run_cli


def test_a_set_beside_a_real_one(toy, tiny, tmp_path, capsys):
    files = [str(toy / "synthetic.jsonl"), "--real", str(toy / "small_real.jsonl"), "--model", str(tiny)]
    page = tmp_path / "page.html"
    assert run_cli("describe", *files, "--page", str(page)) == 0
    shown = capsys.readouterr().out
    assert re.search(r"examples +96 +negative 32, neutral 32, positive 32", shown)
    assert "Vendi score" in shown
    assert "distance to real" in shown
    assert run_cli("describe", *files, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["labels"] == {"negative": 32, "neutral": 32, "positive": 32}
    assert found["real"]["n"] == 45
    assert 0 < found["real"]["to_real"] < 1 < found["embeddings"]["vendi"] < 96
    assert f"{found['self_bleu_4']:.3f}" in shown
    assert f"{found['self_bleu_4']:.3f}" in page.read_text()
    assert '<th scope="row">negative</th>' in page.read_text()


def test_without_real_examples_and_embeddings(toy, capsys):
    assert run_cli("describe", str(toy / "synthetic.jsonl"), "--no-embeddings", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["real"], found["embeddings"], found["encoder"], found["n"]) == (None, None, None, 96)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["none.jsonl"], "none.jsonl: no such file"),
        (
            ["pairs.jsonl", "--real", "texts.jsonl"],
            "pairs.jsonl has pairs of texts and the other set has none",
        ),
        (["texts.jsonl", "--label", "class"], "class: no such column"),
    ],
)
def test_bad_input_is_one_line(tmp_path, monkeypatch, capsys, arguments, expected):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "texts.jsonl").write_text('{"text": "a", "label": "x"}\n')
    (tmp_path / "pairs.jsonl").write_text('{"text": "a", "text_pair": "b", "label": "x"}\n')
    assert run_cli("describe", *arguments, "--no-embeddings") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert expected in line
