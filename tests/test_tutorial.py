"""The tutorial of docs/your-data.md at toy size: its commands, its Python, and the form of its output."""

import functools
import re
import shlex
import shutil

import pandas as pd
import pytest

import synthweight
from support.cli import run_cli
from synthweight.config.schema import ROOT
from synthweight.workbench import api

PAGE = (ROOT / "docs" / "your-data.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", PAGE, flags=re.DOTALL)
SMALL = ("optim.epochs=1", "optim.epochs_small_real=1", "optim.batch_size=16", "optim.max_length=32")


def shape(output: str) -> set[str]:
    """The lines' words, without numbers and what depends on them."""
    lines = (re.sub(r"[^A-Za-z :,]|\bto\b|\bbest\b", " ", line) for line in output.splitlines())
    return {
        " ".join(line.split()) for line in lines if line.strip() and not line.startswith(("chosen:", "   "))
    }


def test_the_tutorial_does_what_it_says(toy, tiny, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    shutil.copy(toy / "small_real.jsonl", "reviews.jsonl")
    pd.read_json(toy / "synthetic.jsonl", lines=True).rename(columns={"text": "review"}).to_csv(
        "llm.csv", index=False
    )
    pd.read_json(toy / "test.jsonl", lines=True)[["text"]].to_csv("new.csv", index=False)
    small = functools.partial(api.fit, model=str(tiny), folds=2, overrides=SMALL)
    monkeypatch.setattr(synthweight, "fit", small, raising=False)
    outputs: list[str] = []
    for kind, block in BLOCKS:
        if kind == "console":
            for command in re.findall(r"^\$ synthweight (.*)$", block, flags=re.MULTILINE):
                more = ["--model", str(tiny), "--folds", "2", *SMALL] if command.startswith("fit") else []
                capsys.readouterr()
                assert run_cli(*shlex.split(command), *more) == 0, command
                outputs.append(capsys.readouterr().out)
        elif kind == "python":
            exec(block, {})
        else:  # the output of the command before
            assert shape(block) <= shape(outputs[-1])
    assert len(outputs) == 3
    table = pd.read_csv("labelled.csv")
    assert {"predicted_label", "probability", "p_positive"} <= set(table)
    assert set(synthweight.load("my_model_dimp").weights) == {str(i) for i in range(1, 97)}


def test_the_table_of_verdicts_is_the_programs():
    from synthweight.workbench.audit import VERDICTS

    rows = dict(re.findall(r"^\| ([\w -]+?) \| (.*?) \|$", PAGE.split("## Audit")[1], flags=re.MULTILINE))
    rows.pop("verdict")
    assert list(rows) == list(VERDICTS)


def test_the_page_is_short():
    assert len(PAGE.split()) <= 1500


@pytest.mark.parametrize("option", sorted(set(re.findall(r"--[a-z][a-z-]+", PAGE))))
def test_an_option_that_it_names_is_one(option, capsys):
    said = ""
    for command in ("fit", "predict", "audit", "push"):
        assert run_cli(command, "--help") == 0
        said += capsys.readouterr().out
    assert re.search(rf"{option}\b", said)
