"""The LLM as few-shot classifier: by log-probabilities, else by parsing; a row like any other."""

import json
import math

import numpy as np
import pytest

from support.cli import run_cli
from support.llm_server import ANSWERING, Say, prompt_of, serving
from support.rows import KEYS, M
from support.toy import WORDS, write
from synthweight import metrics
from synthweight.config import compose
from synthweight.data.examples import text_hash
from synthweight.errors import UserError
from synthweight.llm import classify
from synthweight.reporting import render
from synthweight.reporting.rows import RequestedRow, gather_rows
from synthweight.reporting.tables import results
from synthweight.runs.store import SCHEMA, Store

LABELS = ("negative", "neutral", "positive")


@pytest.fixture
def classified(asking, tmp_path):
    """Classifies and returns the store and the row's id: classified(server, "n=9")."""

    def run(server, *overrides: str):
        with compose.offline(compose.CONF):
            settings = compose.Composer("prompt").prompt(asking(server, "shots=3", *overrides))
        return Store(settings.paths.outputs), classify.classify(settings)

    return run


def truth(body) -> str:
    """The label that the words of the last text give away."""
    text = prompt_of(body).rpartition("Text: ")[2]
    return next(label for label, words in WORDS.items() if any(w in text.split() for w in words))


def with_probabilities(body, number):
    label = truth(body)
    top = {
        f" {label[:3]}": math.log(0.7),
        " the": math.log(0.1),
        f" {LABELS[(LABELS.index(label) + 1) % 3]}": math.log(0.05),
    }
    return Say(f" {label}", top=top)


def in_words(body, number):
    """Every fifth answer says nothing of the kind."""
    label = truth(body)
    return Say("I would rather not say." if number % 5 == 0 else f'"{label.capitalize()}".')


@pytest.mark.parametrize("generator", ["local", "local_base"])
def test_a_row_by_log_probabilities(classified, toy, caplog, generator):
    caplog.set_level("INFO", "synthweight")
    with serving(with_probabilities) as server:
        store, run_id = classified(server, f"generator={generator}")
        assert len(server.asked) == 60
        classified(server, f"generator={generator}", "generator.concurrency=1")
        assert len(server.asked) == 60
        assert server.most_in_flight <= 4
    row = store.row(run_id)
    assert set(row) == KEYS - {"temperatures"} | {"answers", "tokens", "cost_usd"}
    assert (row["kind"], row["selected_epoch"], row["labels"]) == ("prompt", 1, list(LABELS))
    assert row["checkers"] == {"quality": None, "diversity": None}
    assert row["answers"] == {"log-probabilities": 60, "parsing": 0, "unparseable": 0}
    assert row["data"]["test"]["n"] == 60
    assert row["provenance"]["device"] == {"kind": "server", "name": "served"}
    assert "paths" not in row["config"]
    (epoch,) = row["epochs"]
    assert set(epoch["test"]) == M
    assert epoch["test"]["accuracy"] == 1.0
    assert epoch["test"]["nll"] == pytest.approx(-math.log(0.7 / (0.7 + 0.05 + 0.025)), abs=1e-5)
    table = store.table(run_id)
    assert table.schema.equals(SCHEMA)
    lines = table.to_pylist()
    test = [json.loads(x) for x in (toy / "test.jsonl").read_text().splitlines()]
    assert [x["label"] for x in lines] == [t["label"] for t in test] == [x["prediction"] for x in lines]
    log_probs = np.array([x["log_probs"] for x in lines], dtype=np.float32)
    targets = np.array([LABELS.index(t["label"]) for t in test], dtype=np.int64)
    assert metrics.evaluate(log_probs, targets, LABELS) == epoch["test"]
    assert "test accuracy 100.0%, macro F1 100.0%; 60 by log-probabilities" in caplog.text


def test_unparseable_answers_are_wrong_and_reported(classified, caplog):
    caplog.set_level("INFO", "synthweight")
    with serving(in_words) as server:
        store, run_id = classified(server, "generator.concurrency=1")
    row = store.row(run_id)
    assert row["answers"] == {"log-probabilities": 0, "parsing": 48, "unparseable": 12}
    m = row["epochs"][0]["test"]
    assert (m["accuracy"], m["nll"], m["ece"]) == (0.8, None, None)
    assert 0.8 < m["macro_f1"] < 1
    lines = store.table(run_id).to_pylist()
    assert sum(x["prediction"] is None for x in lines) == 12
    assert all(x["log_probs"] is None for x in lines)
    assert "12 unparseable (counted as wrong)" in caplog.text


@pytest.mark.parametrize(
    "labels", [["Billing (refund)", "U.S.", "Other..."], ["正面", "非常正面"], ["positive", "very positive"]]
)
def test_every_manner_of_answering_is_read(classified, tmp_path, labels):
    label_of = {f"case {i}!": labels[i % len(labels)] for i in range(33)}
    write(
        tmp_path / "own" / "test.jsonl", [{"text": text, "label": label} for text, label in label_of.items()]
    )
    write(
        tmp_path / "own" / "small_real.jsonl",
        [{"text": f"real {i}", "label": labels[i % len(labels)]} for i in range(12)],
    )
    manners = list(ANSWERING.values())

    def answer(body, number):
        text = prompt_of(body).rpartition("Text: ")[2].split("\n")[0]
        return Say(manners[number % len(manners)](label_of[text]))

    with serving(answer) as server:
        store, run_id = classified(server, f"dataset.path={tmp_path / 'own'}", "dataset.labels=null")
    row = store.row(run_id)
    assert row["answers"] == {"log-probabilities": 0, "parsing": 33, "unparseable": 0}
    assert row["epochs"][0]["test"]["accuracy"] == 1.0


def test_a_server_without_log_probabilities(classified, caplog):
    def old(body, number):
        return Say(status=400, error="logprobs are not supported") if "logprobs" in body else Say(truth(body))

    with serving(old) as server:
        store, run_id = classified(server)
    assert store.row(run_id)["answers"]["parsing"] == 60
    assert caplog.text.count("does not take logprobs (HTTP 400): going on without") == 1


def test_what_is_shown(classified, toy, tmp_path):
    """Shots of every label, from D_P' alone, the same for every text; greedy."""
    small = {
        json.loads(x)["text"]: json.loads(x)["label"]
        for x in (toy / "small_real.jsonl").read_text().splitlines()
    }
    test = [json.loads(x)["text"] for x in (toy / "test.jsonl").read_text().splitlines()]
    with serving(with_probabilities) as server:
        classified(server)
    shots = {tuple(m["content"] for m in body["messages"][1:-1]) for body in server.asked}
    assert len(shots) == 1
    pairs = list(zip(*[iter(next(iter(shots)))] * 2, strict=True))
    assert sorted(label for _, label in pairs) == sorted([*LABELS] * 3)
    for question, label in pairs:
        assert small[question.removeprefix("Text: ").removesuffix("\nLabel:")] == label
    asked = [body["messages"][-1]["content"] for body in server.asked]
    assert sorted(asked) == sorted(f"Text: {text}\nLabel:" for text in test)
    assert not [text for text in test for p in next(iter(shots)) if text in p]
    assert {body["temperature"] for body in server.asked} == {0}


def test_a_part_of_test_is_nested_and_the_same_for_every_seed(classified):
    texts = {}
    for overrides in (["n=9"], ["n=15"], ["n=9", "seed=1"]):
        with serving(with_probabilities) as server:
            store, run_id = classified(server, *overrides)
        texts[tuple(overrides)] = {x["id"] for x in store.table(run_id).to_pylist()}
    assert len(texts["n=9",]) == 9
    assert texts["n=9",] < texts["n=15",]
    assert texts["n=9",] == texts["n=9", "seed=1"]
    assert len(store.ids()) == 3


def test_what_names_a_row(asking, tmp_path):
    def name(*overrides):
        with compose.offline(compose.CONF), serving() as server:
            return classify.identify(compose.Composer("prompt").prompt(asking(server, *overrides))).id

    same = name()
    for override in (
        "generator.concurrency=9",
        "generator.price.input=1",
        "paths.outputs=x",
        "generator.prompt.name=y",
    ):
        assert name(override) == same, override
    for override in (
        "seed=1",
        "shots=2",
        "n=5",
        "generator.model=other",
        "generator.prompt.task=Other",
        "generator.logprobs=null",
    ):
        assert name(override) != same, override


def test_interrupted_by_the_server_it_goes_on(classified, tmp_path):
    def failing(body, number):
        return Say(status=500) if number > 20 else with_probabilities(body, number)

    with (
        serving(failing) as server,
        pytest.raises(UserError, match="HTTP 500, 2 times in a row: the same command goes on"),
    ):
        classified(server, "generator.retries=1", "generator.concurrency=2")
    (failed,) = (tmp_path / "outputs" / "runs").glob("*/failed.json")
    with serving(with_probabilities) as server:
        store, run_id = classified(server)
    assert len(server.asked) == 40
    assert store.exists(run_id)
    assert not failed.exists()


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["n=0"], "n must be at least 1"),
        (["n=61"], "n=61: test has 60 examples"),
        (["shots=16"], "shots=16: D_P' has 15 examples of its smallest class"),
        (["generator.key_env=NOT_SET"], "NOT_SET is not set"),
        (["generator.prompt.case='{text}'"], "{label} and {text} must both be in it"),
        (["generator.prompt.case='{label}: {text}'"], "must end with {label}"),
        (["shot=8"], "did you mean shots?"),
        (["seed=-1"], "seed must be"),
    ],
)
def test_bad_input_is_one_line(asking, tmp_path, capfd, overrides, expected):
    with serving() as server:
        assert run_cli("prompt", *asking(server, *overrides)) == 2
    error = capfd.readouterr().err
    assert expected in error
    assert len(error.strip().splitlines()) == 1
    assert not server.asked
    assert not (tmp_path / "outputs" / "rows").exists()


@pytest.fixture
def sweeps(tmp_path, settings):
    """A sweep of trainings, and one of few-shot classifications that its table joins, in files of their own."""
    paths = f"paths: {{outputs: {tmp_path / 'outputs'}, cache: {tmp_path / 'cache'}}}\n"
    few = tmp_path / "few_shot.yaml"
    few.write_text(
        "defaults: [prompt, {override dataset: local}, {override generator: local}, _self_]\n" + paths
        + "hydra:\n  mode: MULTIRUN\n  sweeper:\n    blocks:\n"
        '      - {generator.model: m, shots: 2, seed: "range(0,2)"}\n'
    )  # fmt: skip
    trained = tmp_path / "small.yaml"
    trained.write_text(
        "defaults: [config, {override dataset: local}, {override logger: none}, _self_]\n" + paths
        + f"report: {{join: [{few}]}}\nhydra:\n  mode: MULTIRUN\n  sweeper:\n    blocks:\n"
        '      - {loss: ce, seed: "range(0,2)"}\n'
    )  # fmt: skip
    own = [s for s in settings if not s.startswith(("logger", "dataset=", "paths."))]
    return trained, few, own


def asked(settings, server) -> list[str]:
    data = [s for s in settings if s.startswith("dataset.path")]
    return [*data, f"generator.base_url={server.url}", "generator.back_off=0.01", "generator.retries=1"]


def test_a_sweep_of_few_shot_classifications_is_joined_by_a_table(sweeps, capfd, tmp_path):
    trained, few, own = sweeps
    given = [*own, "optim.epochs=1"]
    with serving(with_probabilities) as server:
        values = asked(own, server)
        assert run_cli("plan", str(few), *values) == 0
        out = capfd.readouterr().out
        assert "Jobs: 2; done 0, to do 2" in out
        assert "local prompt m 2 shots seed 1" in out
        assert run_cli("tables", str(few), *values) == 2
        assert "(local prompt m seed 0)" in capfd.readouterr().err
        assert run_cli("sweep", str(few), *values) == 0
        out = capfd.readouterr().out
        assert "2 runs: 0 done, 2 to do" in out
        assert "[1/2] local prompt m 2 shots seed 0: test accuracy" in out
        assert len(server.asked) == 120
        assert run_cli("sweep", str(few), *values) == 0
        assert "nothing to do" in capfd.readouterr().out
        assert run_cli("sweep", str(trained), *given) == 0
        capfd.readouterr()
        assert run_cli("tables", str(trained), *given, f"generator.base_url={server.url}") == 0
        lines = [line for line in capfd.readouterr().out.splitlines() if line.startswith("|")]
        assert lines[2].startswith("| – | m, 2 shots a label | 100.0 ± 0.0 | 100.0 ± 0.0 |")
        assert lines[3].startswith("| synthetic | ce | ")
        assert run_cli("tables", str(trained), *given, "generator.model=other") == 0
        lines = [line for line in capfd.readouterr().out.splitlines() if line.startswith("|")]
        assert lines[2].startswith("| ")  # CE alone: the other model has no rows
        assert len(lines) == 3
        assert run_cli("tables", str(trained), *given, "shotz=3") == 2
        assert "shotz" in capfd.readouterr().err
        assert run_cli("sweep", str(few), *values, "shots=3", "seed=0") == 0
        assert "1 runs: 0 done, 1 to do" in capfd.readouterr().out
    assert {p.parent.name for p in tmp_path.rglob("*.parquet")} >= {"rows"}


def test_a_failed_few_shot_classification_is_listed(sweeps, capfd, tmp_path):
    _, few, own = sweeps
    with serving(lambda body, number: Say(status=500)) as server:
        assert run_cli("sweep", str(few), *asked(own, server), "seed=0") == 1
    assert "1 of 1 runs failed" in capfd.readouterr().err
    assert Store(tmp_path / "outputs").ids() == set()


def test_several_few_shot_classifications_by_hydras_multirun(asking, tmp_path):
    with serving(with_probabilities) as server:
        assert run_cli("prompt", "-m", "shots=1,2", *asking(server, "n=5")) == 0
    assert len(Store(tmp_path / "outputs").ids()) == 2


def test_files_of_several_generators_are_lines_of_their_own(bound, tmp_path, toy):
    runs = []
    for name in ("weak", "strong"):
        path = write(
            tmp_path / name / "synthetic.jsonl",
            [json.loads((toy / "synthetic.jsonl").read_text().splitlines()[0])],
        )
        runs.append((name, bound("source=file", f"source.path={path}")))
    wanted = [RequestedRow(run_id, run) for run_id, run in runs]
    text = render.to_markdown(
        results.results_table(gather_rows(Store(tmp_path / "none"), wanted, "generators", partial=True))
    )
    assert "| source.path | accuracy |" in text
    assert all(f"| {run.source.path} | " in text for _, run in runs)


def test_text_hashes_are_those_of_test(classified, toy):
    with serving(with_probabilities) as server:
        store, run_id = classified(server, "n=5")
    from synthweight.data.on_disk import read_examples

    known = {e.id: text_hash(e) for e in read_examples(toy / "test.jsonl", "test")}
    assert all(known[x["id"]] == x["text_sha256"] for x in store.table(run_id).to_pylist())
