"""`fit`, `predict`, `audit` as commands."""

import json

import pytest

from support.cli import run_cli

SMALL = ("optim.epochs=1", "optim.epochs_small_real=1", "optim.batch_size=16", "optim.max_length=32")


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty folder, where a user starts."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def test_from_two_files_to_labels(toy, tiny, here, capsys):
    files = "--real", toy / "small_real.jsonl", "--synthetic", toy / "synthetic.jsonl", "--out", "my_model"
    fit = ["fit", *map(str, files), "--model", str(tiny), "--loss", "dimp", "--folds", "2", *SMALL]
    assert run_cli(*fit) == 0
    said = capsys.readouterr()
    assert "trained: dimp" in said.out
    assert "my_model: the model, README.md, report.html, synthetic_audit.csv" in said.out
    assert "trainings, about" in said.err
    assert run_cli(*fit) == 2
    assert "my_model: exists already" in capsys.readouterr().err
    (here / "new.csv").write_text("text\ngood great camera\nbad awful phone\n")
    assert run_cli("predict", "my_model", "new.csv", "--out", "labelled.jsonl", "--proba") == 0
    rows = [json.loads(line) for line in (here / "labelled.jsonl").read_text().splitlines()]
    assert [set(row) for row in rows] == [
        {"text", "predicted_label", "probability", "p_negative", "p_neutral", "p_positive"}
    ] * 2
    capsys.readouterr()
    assert run_cli("audit", "my_model", "--top", "3") == 0
    assert len(capsys.readouterr().out.split("p(label)")[1].splitlines()) == 4
    assert sorted(p.name for p in here.iterdir()) == [".cache", "labelled.jsonl", "my_model", "new.csv"]


def table(*rows, header="text,label"):
    return "\n".join([header, *rows]) + "\n"


REAL = table("a,1", "b,2", "c,1", "d,2")
BAD = {
    "llm.csv: no column is plainly the label": (REAL, table("e,1", header="text,mood"), ()),
    "llm.csv: no such file": (REAL, None, ()),
    "labels that real.csv does not have: '3' (1)": (REAL, table("e,1", "f,3"), ()),
    "every text is in real.csv too": (REAL, table("A,1", "B!,2"), ()),
    "class '2' has 1 real example": (table("a,1", "b,2", "c,1", "d,1"), table("e,1", "f,2"), ()),
    "real.csv: holds no example": ("", REAL, ()),
    "real.csv:3: a quote that is broken": (table("a,1", '"b,2', "c,1"), REAL, ()),
    "--loss magic: there are real, ce": (REAL, REAL, ("--loss", "magic")),
}


@pytest.mark.parametrize("message", BAD)
def test_bad_input_is_one_line_and_leaves_nothing(here, capsys, message):
    real, synthetic, options = BAD[message]
    (here / "real.csv").write_text(real)
    if synthetic is not None:
        (here / "llm.csv").write_text(synthetic)
    assert run_cli("fit", "--real", "real.csv", "--synthetic", "llm.csv", "--out", "my_model", *options) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
    assert not (here / "my_model").exists()


def test_a_verdict_that_there_is_none_is_refused(here, capsys):
    assert run_cli("audit", "my_model", "--verdict", "bad") == 2
    assert "--verdict bad: there are real text, conflict" in capsys.readouterr().err
    assert run_cli("predict", "my_model", "--nonsense") == 2
