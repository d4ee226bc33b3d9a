"""Labels for files of every format, streamed, as the model gives them for lists."""

import gzip
import io
import json
import subprocess
import sys
import time
import tracemalloc

import numpy as np
import pandas as pd
import pytest

from synthweight.data.readers import iter_rows
from synthweight.errors import UserError
from synthweight.workbench import predict
from synthweight.workbench.predict import Predictor, predict_file
from synthweight.workbench.read import Columns

TEXTS = [f"{word} the camera number{i}" for i, word in enumerate(["good", "broken", "cable", "awful"] * 3)]


@pytest.fixture(scope="module")
def predictor(fitted):
    return Predictor(fitted.model.folder)


GUESSED = Columns()


def run(predictor, source, target, columns=GUESSED, proba=False):
    return list(predict_file(predictor, source, target, columns, proba))


@pytest.mark.parametrize(
    "name", ["a.csv", "a.tsv", "a.jsonl", "a.json", "a.parquet", "a.csv.gz", "a.parquet.gz"]
)
def test_every_format_goes_in_and_out(predictor, fitted, tmp_path, monkeypatch, name):
    monkeypatch.setattr(predict, "CHUNK", 5)  # several parts
    (tmp_path / "in.jsonl").write_text(
        "".join(json.dumps({"text": t, "n": i, "label": "?"}) + "\n" for i, t in enumerate(TEXTS))
    )
    assert run(predictor, tmp_path / "in.jsonl", tmp_path / name, proba=True) == [5, 10, 12]
    rows = [row for _, row in iter_rows(tmp_path / name)]
    assert [row["text"] for row in rows] == TEXTS
    assert [int(row["n"]) for row in rows] == list(range(12))
    assert [row["predicted_label"] for row in rows] == fitted.model.predict(TEXTS)
    assert all(abs(sum(float(row[f"p_{label}"]) for label in fitted.model.labels) - 1) < 1e-5 for row in rows)


def test_rows_keep_their_columns_and_get_label_and_probabilities(predictor, fitted, tmp_path):
    (tmp_path / "in.csv").write_text("id,text\n" + "".join(f"{i},{t}\n" for i, t in enumerate(TEXTS)))
    run(predictor, tmp_path / "in.csv", tmp_path / "out.csv", proba=True)
    rows = pd.read_csv(tmp_path / "out.csv")
    assert list(rows) == [
        "id",
        "text",
        "predicted_label",
        "probability",
        "p_negative",
        "p_neutral",
        "p_positive",
    ]
    assert rows["predicted_label"].tolist() == fitted.model.predict(TEXTS)
    np.testing.assert_allclose(
        rows[["p_negative", "p_neutral", "p_positive"]], fitted.model.predict_proba(TEXTS), atol=1e-6
    )
    np.testing.assert_allclose(rows["probability"], fitted.model.predict_proba(TEXTS).max(axis=1), atol=1e-6)


def test_standard_input_is_one_text_per_line(predictor, fitted, monkeypatch, capsys):
    monkeypatch.setattr("sys.stdin", io.StringIO("\n".join(TEXTS[:3]) + "\n\n"))
    run(predictor, None, None)
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["predicted_label"] for row in rows] == fitted.model.predict(TEXTS[:3])


def test_a_large_file_is_streamed(predictor, tmp_path, monkeypatch):
    lines = 30_000
    # the network is not it
    monkeypatch.setattr(predictor, "log_probs", lambda texts: np.zeros((len(texts), 3), np.float32))
    with gzip.open(tmp_path / "in.jsonl.gz", "wt") as file:
        file.writelines(json.dumps({"text": f"{i} " + "x" * 500}) + "\n" for i in range(lines))
    tracemalloc.start()
    try:
        done = run(predictor, tmp_path / "in.jsonl.gz", tmp_path / "out.jsonl")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert done[-1] == lines
    assert peak < lines * 500  # less than the texts alone: a part of them is held


def test_bad_input_is_refused_and_nothing_is_written(predictor, tmp_path):
    (tmp_path / "twice.csv").write_text("text,predicted_label\na,b\n")
    (tmp_path / "unclear.csv").write_text("one,two\na,b\n")
    (tmp_path / "late.csv").write_text("text\n" + "fine\n" * 3 + '" "\n')
    (tmp_path / "empty.csv").write_text("text\n")
    before = sorted(tmp_path.iterdir())
    for name, columns, message in (
        ("twice.csv", Columns(), "has a column 'predicted_label' already"),
        ("unclear.csv", Columns(), "no column is plainly the text"),
        ("unclear.csv", Columns(text="three"), "--text three: no such column; there are one, two"),
        ("late.csv", Columns(), "late.csv:5: text is empty"),
        ("empty.csv", Columns(), "holds no example"),
        ("none.csv", Columns(), "no such file"),
    ):
        with pytest.raises(UserError, match=message):
            run(predictor, tmp_path / name, tmp_path / "out.csv", columns)
    with pytest.raises(UserError, match="unknown kind of file"):
        run(predictor, tmp_path / "late.csv", tmp_path / "out.xlsx")
    with pytest.raises(UserError, match="this model takes single texts"):
        predictor.log_probs([("a", "b")])
    with pytest.raises(UserError, match="not a folder that `synthweight fit` made"):
        Predictor(tmp_path)
    assert sorted(tmp_path.iterdir()) == before


def test_texts_come_back_in_their_order_whatever_their_length(predictor):
    texts = ["good " * n for n in (9, 1, 20, 3, 14)]
    one_by_one = np.concatenate([predictor.log_probs([text]) for text in texts])
    np.testing.assert_allclose(predictor.log_probs(texts), one_by_one, atol=1e-5)
    assert predictor.log_probs([]).shape == (0, 3)


def test_terminated_in_the_middle_it_leaves_no_file(fitted, tmp_path):
    command = [
        sys.executable,
        "-m",
        "synthweight",
        "predict",
        fitted.model.folder,
        "--out",
        tmp_path / "out" / "a.csv",
    ]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as running:
        running.stdin.write(b"good camera\n" * 5000)
        running.stdin.flush()  # and is left open: more may come
        deadline = time.monotonic() + 60
        while not list(tmp_path.glob("out/.a.csv.*.part")):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        running.terminate()
        error = running.stderr.read().decode()
    assert running.returncode == 130
    assert error.splitlines()[-1].startswith("synthweight: interrupted; nothing half-written is left")
    assert list((tmp_path / "out").iterdir()) == []


def test_rows_that_a_table_cannot_hold_are_named(predictor, tmp_path, monkeypatch):
    monkeypatch.setattr(predict, "CHUNK", 2)
    lines = [{"text": t, "more": None} for t in TEXTS[:2]] + [{"text": TEXTS[2], "more": None, "extra": 1}]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(
        UserError, match=r"a later row has the column 'extra', which the first has not: write \.jsonl"
    ):
        run(predictor, tmp_path / "in.jsonl", tmp_path / "out.csv")
    with pytest.raises(UserError, match="a later row has the column 'extra'"):
        run(predictor, tmp_path / "in.jsonl", tmp_path / "out.parquet")
    mixed = [{"text": t, "more": 1} for t in TEXTS[:2]] + [{"text": TEXTS[2], "more": "one"}]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(line) + "\n" for line in mixed))
    with pytest.raises(
        UserError, match=r"values of several types, or none in its first rows \(.*\): write \.jsonl"
    ):
        run(predictor, tmp_path / "in.jsonl", tmp_path / "out.parquet")
    assert [p.name for p in tmp_path.iterdir()] == ["in.jsonl"]
