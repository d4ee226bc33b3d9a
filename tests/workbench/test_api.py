"""From two files to a folder: what is chosen, what is written, what is refused."""

import json
import os
import subprocess
import sys
from shutil import rmtree

import numpy as np
import pandas as pd
import pytest

import synthweight
from synthweight.data.on_disk import read_examples
from synthweight.errors import UserError
from synthweight.workbench import api, choose
from synthweight.workbench.export import check_target
from synthweight.workbench.read import read_all
from synthweight.workbench.workspace import METHODS, Workspace

PIPELINE = """
import json, sys
sys.modules["synthweight"] = None  # an import of it raises
from transformers import pipeline
folder, texts = sys.argv[1], json.load(sys.stdin)
classify = pipeline("text-classification", model=folder, device="cpu", top_k=None)
json.dump([{one["label"]: one["score"] for one in scores} for scores in classify(texts, truncation=True)], sys.stdout)
"""


def test_the_folder_is_whole_and_says_what_was_done(fitted):
    folder, settings = fitted.model.folder, fitted.model.settings
    assert {"config.json", "model.safetensors", "tokenizer.json", "README.md", "report.html", "synthetic_audit.csv", "fit.json",
            "row.json", "row.parquet"} <= {p.name for p in folder.iterdir()}  # fmt: skip
    assert settings["counts"]["real"] == {"negative": 15, "neutral": 15, "positive": 15}
    names = [c["name"] for c in settings["choice"]["candidates"]]
    assert names == [*METHODS, "drop25"]
    assert settings["method"] == settings["choice"]["chosen"] in names
    row = json.loads((folder / "row.json").read_text())
    assert row["id"] == settings["row"]
    assert settings["test"]["accuracy"] == row["epochs"][row["selected_epoch"] - 1]["test"]["accuracy"]
    assert np.sum(settings["confusion"]) == 60
    assert sum(b["n"] for b in settings["reliability"]) == 60


def test_a_fold_never_sees_its_own_examples(fitted, inputs):
    tested = []
    datasets = [
        f
        for f in (fitted.work / "data").iterdir()
        if len(read_examples(f / "test.jsonl", "test")) not in (45, 60)
    ]
    assert len(datasets) == 2
    for folder in datasets:
        test, real, synthetic = (
            read_examples(folder / f"{s}.jsonl", s) for s in ("test", "small_real", "synthetic")
        )
        assert not {e.text for e in test} & ({e.text for e in real} | {e.text for e in synthetic})
        assert len(test) + len(real) == 45
        tested += [e.id for e in test]
    assert sorted(tested) == sorted(f"real:{i}" for i in range(1, 46))
    rows = [json.loads(p.read_text()) for p in (fitted.work / "rows").glob("*.json")]
    by_id = {row["id"]: row for row in rows}
    weighted = [row for row in rows if row["config"]["loss"]["name"] in ("dimp", "imp", "filter")]
    assert len(weighted) >= 8  # dimp, imp, filter and drop25 of each fold
    for row in weighted:  # its quality checker was trained on the same fold's real examples
        assert (
            by_id[row["checkers"]["quality"]]["data"]["small_real"]["sha256"]
            == row["data"]["small_real"]["sha256"]
        )


def test_the_pipeline_of_a_process_without_this_package_says_the_same(fitted, inputs, tmp_path):
    copied = fitted.model.save(tmp_path / "elsewhere")
    texts = [e.text for e in read_examples(inputs["test"], "test")]
    done = subprocess.run(
        [sys.executable, "-I", "-c", PIPELINE, str(copied)], input=json.dumps(texts), capture_output=True, text=True, check=True,
        env={k: v for k, v in os.environ.items() if k != "PYTHONPATH"},
    )  # fmt: skip
    pipeline = np.array(
        [[scores[label] for label in fitted.model.labels] for scores in json.loads(done.stdout)]
    )
    np.testing.assert_allclose(fitted.model.predict_proba(texts), pipeline, atol=1e-5)
    assert fitted.model.predict(texts) == [fitted.model.labels[i] for i in pipeline.argmax(axis=1)]


def test_the_probabilities_are_those_of_the_run_by_the_temperature_of_its_folds(fitted, inputs, tmp_path):
    settings, work = fitted.model.settings, Workspace(fitted.work, inputs["model"], 0, inputs["overrides"])
    texts = [e.text for e in read_examples(inputs["test"], "test")]
    raw = work.test_log_probs(settings["row"])
    expected = np.exp(raw / settings["temperature"])
    expected /= expected.sum(axis=1, keepdims=True)
    found = fitted.model.predict_proba(texts)
    np.testing.assert_allclose(found, expected, rtol=0, atol=3e-3)  # the run's are of bf16 products
    assert abs(np.log(settings["temperature"])) > 0.05  # else nothing is shown
    nll = -np.log(expected)[
        np.arange(60), [fitted.model.labels.index(e.label) for e in read_examples(inputs["test"], "test")]
    ]
    assert settings["test"]["nll"] == pytest.approx(nll.mean(), abs=1e-4)


def test_the_same_call_again_trains_nothing(fitted, inputs, tmp_path):
    before = {p.name: p.stat().st_mtime_ns for p in (fitted.work / "rows").iterdir()}
    # it may be thrown away, and is made again
    rmtree(fitted.work / "runs" / fitted.model.settings["row"] / "model")
    again = synthweight.fit(**inputs, out=tmp_path / "again")
    assert before == {p.name: p.stat().st_mtime_ns for p in (fitted.work / "rows").iterdir()}
    changed = [key for key, value in again.settings.items() if value != fitted.model.settings[key]]
    assert not changed
    assert (again.folder / "model.safetensors").read_bytes() == (
        fitted.model.folder / "model.safetensors"
    ).read_bytes()


def test_real_texts_are_nowhere_and_synthetic_ones_where_they_may_be(fitted, inputs, tmp_path):
    real, synthetic = (
        [e.text.encode() for e in read_examples(inputs[key], "x")] for key in ("real", "synthetic")
    )  # fmt: skip
    for path in fitted.model.folder.iterdir():
        content = path.read_bytes()
        assert not any(text in content for text in real)
        assert any(text in content for text in synthetic) == (
            path.name in ("synthetic_audit.csv", "report.html")
        )
    without = api.fit(**inputs, out=tmp_path / "without", texts=False)
    for path in without.folder.iterdir():
        assert not any(text in path.read_bytes() for text in synthetic)
    assert without.weights == fitted.model.weights


def test_new_files_have_the_permissions_of_others(fitted, tmp_path):
    kept = os.umask(0o027)
    try:
        saved = fitted.model.save(tmp_path / "saved")
    finally:
        os.umask(kept)
    assert {p.stat().st_mode & 0o777 for p in saved.iterdir()} == {0o640}
    assert saved.stat().st_mode & 0o777 == 0o750


def test_a_given_loss_compares_nothing(inputs, tmp_path):
    arguments = {key: value for key, value in inputs.items() if key not in ("test", "drop")}
    frames = {key: pd.read_json(inputs[key], lines=True) for key in ("real", "synthetic")}
    made = synthweight.fit(**(arguments | frames), loss="dimp", out=tmp_path / "made")
    assert (made.settings["method"], made.settings["choice"], made.settings["test"]) == ("dimp", None, None)
    assert made.settings["temperature"] is None
    # it was tested on what it was trained on: the row is left out
    assert not list(made.folder.glob("row.*"))
    with pytest.raises(
        UserError, match="--drop is a candidate of the comparison, and --loss compares nothing"
    ):
        synthweight.fit(**inputs, loss="dimp")
    # the quality checker has been trained over the folds anyway
    real = synthweight.fit(**(arguments | frames), loss="real", out=tmp_path / "real")
    assert real.settings["estimate"]["nll"] == pytest.approx(made.settings["checker"]["nll"])
    assert real.settings["temperature"] == made.settings["checker_temperature"]
    assert sum(w for w in made.weights.values() if w is not None) > 0
    # calibrated out of fold: hardly worse than guessing
    assert made.settings["checker"]["nll"] <= np.log(3) + 0.05
    assert synthweight.load(made.folder).predict(["good great"])[0] in made.labels


def test_a_target_that_exists_is_replaced_on_request_and_only_if_it_is_ours(fitted, tmp_path):
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.tex").write_text("years of work")
    for overwrite, message in ((False, "exists already"), (True, "this is none")):
        with pytest.raises(UserError, match=message):
            check_target(mine, overwrite)
    fitted.model.save(tmp_path / "ours")
    with pytest.raises(UserError, match="exists already"):
        fitted.model.save(tmp_path / "ours")
    fitted.model.save(tmp_path / "ours", overwrite=True)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["mine", "ours"]


def test_a_failure_leaves_nothing_half_written(fitted, tmp_path):
    def fill(part):
        part.mkdir()
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        api.export.place(tmp_path / "made", fill, overwrite=False)
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_fit_goes_on(inputs, tmp_path):
    arguments = inputs | {"work": tmp_path / "work", "drop": [], "out": tmp_path / "made"}
    del arguments["test"]
    stopped = []

    def steps(total, phase):
        from contextlib import contextmanager

        @contextmanager
        def phases():
            @contextmanager
            def step(name):
                yield
                stopped.append(name)
                if len(stopped) == 3:
                    raise KeyboardInterrupt

            yield step

        return phases()

    with pytest.raises(KeyboardInterrupt):
        api.fit(**arguments, steps=steps)
    assert not (tmp_path / "made").exists()
    first = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "work" / "rows").glob("*.json")}
    assert len(first) == 3
    api.fit(**arguments)
    later = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "work" / "rows").glob("*.json")}
    assert first.items() <= later.items()
    assert not list((tmp_path / "work").glob("runs/*/lease"))


def test_few_real_examples_make_fewer_folds_or_a_refusal(caplog):
    def data(n):
        real = [
            {"text": f"real {i} {label}", "label": label}
            for label in "ab"
            for i in range(n if label == "b" else 5)
        ]
        return read_all(real, [{"text": f"synthetic {label}", "label": label} for label in "ab"])

    assert choose.possible_folds(data(5), 5) == 5
    assert choose.possible_folds(data(3), 5) == 3
    assert "3 folds instead of 5: class 'b' has no more real texts" in caplog.text
    with pytest.raises(UserError, match="class 'b' has 1 real example: cross-validation needs at least 2"):
        choose.possible_folds(data(1), 5)


def test_a_budget_compares_less_and_a_small_one_is_refused(inputs, caplog, tmp_path):
    data = read_all(inputs["real"], inputs["synthetic"])
    workspace = Workspace(tmp_path, inputs["model"], 0, inputs["overrides"])
    methods = list(METHODS.values())
    whole = choose.plan(workspace, data, 5, methods, rate=1.0)
    assert (whole.folds, len(whole.methods), whole.trainings) == (5, 6, 32)
    fewer = choose.plan(workspace, data, 5, methods, 1.0, budget=whole.seconds * 0.7)
    assert (fewer.folds, len(fewer.methods)) == (3, 6)
    least = choose.plan(workspace, data, 5, methods, 1.0, budget=whole.seconds * 0.27)
    assert (least.folds, [m.name for m in least.methods]) == (2, ["real", "ce", "dimp"])
    assert "within the budget: 2 folds instead of 5, methods real, ce, dimp" in caplog.text
    with pytest.raises(UserError, match="--budget: even 2 folds of 3 methods take about"):
        choose.plan(workspace, data, 5, methods, 1.0, budget=1)


def test_a_bad_option_is_refused_before_anything_is_read(tmp_path):
    for option, message in (
        ({"loss": "magic"}, "--loss magic: there are real, ce, mixed"),
        ({"metric": "auc"}, "--metric auc: one of accuracy, macro_f1"),
        ({"drop": [0]}, "--drop 0: a percentage above 0"),
        ({"folds": 1}, "--folds 1: at least 2"),
        ({"overrides": ["loss=dimp"]}, "loss=dimp: fit sets dataset, source, loss"),
        ({"overrides": ["source.n=5"]}, "source.n=5: fit sets dataset"),
    ):
        with pytest.raises(UserError, match=message):
            api.fit("none.csv", "none.csv", work=tmp_path, **option)
