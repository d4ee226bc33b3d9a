"""One run, end to end, on a tiny encoder; and with the real one."""

import dataclasses
import json
import shutil

import numpy as np
import pyarrow as pa
import pytest

from support.rows import KEYS, M
from synthweight import metrics
from synthweight.data import sources
from synthweight.data.examples import text_hash
from synthweight.errors import CheckerFailedError, UserError
from synthweight.losses import LOSSES
from synthweight.runs import identity, run
from synthweight.runs.identity import identify
from synthweight.runs.store import Store
from synthweight.training.history import EpochSelector


def train(bound_run) -> tuple[Store, str]:
    outcome = run.train(bound_run)
    return Store(bound_run.paths.outputs), outcome.id


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    """One folder for runs of many losses, which share their checkers."""
    return tmp_path_factory.mktemp("outputs")


@pytest.mark.parametrize("loss", LOSSES)
def test_a_row_of_every_loss(bound, outputs, loss):
    job = bound(f"loss={loss}", f"paths.outputs={outputs}")
    store, run_id = train(job)
    row = store.row(run_id)
    assert set(row) == KEYS
    assert (row["kind"], row["labels"], row["version"]) == (
        "train",
        ["negative", "neutral", "positive"],
        identity.VERSION,
    )
    assert [e["epoch"] for e in row["epochs"]] == [1, 2]
    assert set(row["epochs"][0]) == {"epoch", "train_loss", "selection", "test"}
    assert [e["epoch"] for e in row["epochs"] if e["test"]] == [row["selected_epoch"]]
    assert set(row["epochs"][row["selected_epoch"] - 1]["test"]) == set(row["epochs"][0]["selection"]) == M
    assert set(row["seconds"]) == {"prepare", "scores", "weights", "train", "evaluate"}
    assert set(row["checkers"]) == {"quality", "diversity"}
    assert {role for role, checker in row["checkers"].items() if checker} == set(LOSSES[loss].needs)
    assert "paths" not in row["config"]
    assert "logger" not in row["config"]
    assert set(row["provenance"]) == {
        "commit", "dirty", "diff", "lock", "versions", "device", "threads", "fallbacks", "stacked",
        "argv", "started", "finished",
    }  # fmt: skip
    assert row["data"]["synthetic"]["n"] == 96
    assert all(store.exists(checker) for checker in row["checkers"].values() if checker)
    best = max(e["selection"]["accuracy"] for e in row["epochs"])
    assert row["selected_epoch"] == next(
        e["epoch"] for e in row["epochs"] if e["selection"]["accuracy"] == best
    )

    lines = store.table(run_id).to_pylist()
    test = [x for x in lines if x["split"] == "test"]
    trained = [x for x in lines if x["split"] == "train"]
    assert len(test) == 60
    assert {x["epoch"] for x in test} == {row["selected_epoch"]}
    assert len(trained) == 96 * 2
    assert all(x["weight"] is not None and x["weight"] >= 0 for x in trained)
    data = sources.build_run_data(job)
    assert [x["text_sha256"] for x in test] == [text_hash(e) for e in data.test]
    log_probs = np.array([x["log_probs"] for x in test], dtype=np.float32)
    np.testing.assert_allclose(np.exp(log_probs).sum(axis=1), 1, atol=1e-5)
    again = metrics.evaluate(log_probs, data.targets(data.test), data.labels)
    assert again["accuracy"] == row["epochs"][row["selected_epoch"] - 1]["test"]["accuracy"]
    own = [x for x in trained if x["log_probs"] is not None]
    assert len(own) == (96 if loss == "ce" else 0)
    assert (store.run_folder(run_id) / "model" / "model.safetensors").is_file() == (loss == "ce")


def test_weights_on_disk_are_the_formulas(bound):
    """IMP's weight is p'/q by id: q from the CE row's own Parquet, p' from the quality checker's model."""
    store, run_id = train(bound("loss=imp"))
    row = store.row(run_id)
    weights = {
        x["id"]: x["weight"]
        for x in store.table(run_id).to_pylist()
        if x["split"] == "train" and x["epoch"] == 1
    }
    q = {
        x["id"]: x["log_probs"][row["labels"].index(x["label"])]
        for x in store.table(row["checkers"]["diversity"]).to_pylist()
        if x["split"] == "train" and x["log_probs"] is not None
    }
    import pyarrow.parquet as pq

    file = next((store.run_folder(row["checkers"]["quality"]) / "scores").glob("*.parquet"))
    p = {x["id"]: x["log_probs"][row["labels"].index(x["label"])] for x in pq.read_table(file).to_pylist()}
    assert set(weights) == set(q) == set(p)
    for i, weight in weights.items():
        assert weight == pytest.approx(np.exp(p[i] - q[i]), rel=1e-5)
    # and the checker's scores are what its saved model says, by transformers' own pipeline
    from transformers import pipeline

    example = sources.build_run_data(bound("loss=imp")).train[5]
    folder = store.run_folder(row["checkers"]["quality"]) / "model"
    answer = pipeline("text-classification", model=str(folder), top_k=None, device="cpu")(example.text)
    answer = answer[0] if isinstance(answer[0], list) else answer
    share = next(a["score"] for a in answer if a["label"] == example.label)
    assert np.log(share) == pytest.approx(p[example.id], abs=1e-4)


def test_a_second_run_does_nothing_and_says_so(bound, caplog):
    store, run_id = train(bound())
    before = store.json_path(run_id).stat().st_mtime_ns
    with caplog.at_level("INFO"):
        assert run.train(bound()).status == "done"
    assert "nothing to do" in caplog.text
    assert store.json_path(run_id).stat().st_mtime_ns == before


def test_same_config_and_seed_same_digits(bound, tmp_path):
    rows = []
    for place in ("one", "two"):
        store, run_id = train(bound("loss=dimp", f"paths.outputs={tmp_path / place}"))
        rows.append((store.row(run_id), store.table(run_id)))
    assert rows[0][0]["epochs"] == rows[1][0]["epochs"]
    assert rows[0][1].equals(rows[1][1])
    other_store, other = train(bound("loss=dimp", "seed=1"))
    assert other_store.row(other)["epochs"] != rows[0][0]["epochs"]


def test_a_checker_is_trained_once_for_all_that_need_it(bound, caplog):
    with caplog.at_level("INFO"):
        for loss in ("imp", "dimp", "quality_only", "ce"):
            run.train(bound(f"loss={loss}"))
    out = caplog.text
    assert out.count("small_real ce tiny seed 0: epoch 1/3") == 1
    assert out.count("synthetic ce tiny seed 0: epoch 1/2") == 1
    assert "synthetic ce tiny seed 0: done already" in out


def test_a_checker_whose_model_is_gone_is_trained_again_and_its_row_left_alone(bound):
    store, run_id = train(bound("loss=dimp"))
    quality = store.row(run_id)["checkers"]["quality"]
    before = store.json_path(quality).read_bytes()
    shutil.rmtree(store.runs)
    _, other = train(bound("loss=quality_only"))
    assert store.exists(other)
    assert store.json_path(quality).read_bytes() == before


def test_dimp_on_small_real_uses_the_checkers_own_row(bound):
    store, run_id = train(bound("loss=dimp", "source=small_real", "selection=last"))
    quality = store.row(run_id)["checkers"]["quality"]
    assert not (store.run_folder(quality) / "scores").exists()


def test_a_checker_of_another_encoder(bound, tmp_path, monkeypatch):
    """Base checkers with a larger classifier: scores are joined by id, each encoder reads with its own
    tokenizer.
    """
    from support.toy import make_encoder
    from synthweight.config import bind

    other = make_encoder(tmp_path, hidden=48, seed=5)
    named = bind.load_choice

    def with_folder(group, name):
        found = named(group, name)
        changed = (
            {"path": str(other)}
            if group == "model"
            else {"lr": 0.005, "epochs_small_real": 2, "max_length": 16}
        )
        return dataclasses.replace(found, **changed)

    monkeypatch.setattr(bind, "load_choice", with_folder)
    store, run_id = train(bound("loss=dimp", "checker.quality.model=bert_base"))
    quality = store.row(store.row(run_id)["checkers"]["quality"])
    assert quality["config"]["model"]["name"] == "bert_base"
    assert quality["config"]["optim"]["max_length"] == 16


def test_a_failed_checker_fails_the_run_because_of_it(bound, monkeypatch):
    job = bound("loss=dimp")
    quality = identify(job).checkers["quality"].id
    fit_run = run.fit_run

    def broken(store, identity, name):
        if identity.id == quality:
            raise RuntimeError("no luck")
        fit_run(store, identity, name)

    monkeypatch.setattr(run, "fit_run", broken)
    with pytest.raises(CheckerFailedError, match="quality checker .* failed: no luck"):
        run.train(job)
    store = Store(job.paths.outputs)
    assert store.ids() == set()
    assert (
        "no luck" in json.loads((store.run_folder(identify(job).id) / "failed.json").read_text())["exception"]
    )
    assert "RuntimeError" in json.loads((store.run_folder(quality) / "failed.json").read_text())["traceback"]
    monkeypatch.setattr(run, "fit_run", fit_run)
    run.train(job)
    assert not (store.run_folder(quality) / "failed.json").exists()


def test_test_metrics_have_no_say_in_the_choice(bound, monkeypatch):
    """All test metrics set to NaN: the same epoch, the same model."""
    from synthweight.training import history

    job = bound("optim.epochs=4")
    store, run_id = train(job)
    evaluate = metrics.evaluate

    def blind(log_probs, targets, labels):
        found = evaluate(log_probs, targets, labels)
        if len(targets) == 60:
            found |= {
                "accuracy": float("nan"),
                "macro_f1": float("nan"),
                "nll": float("nan"),
                "ece": float("nan"),
            }
        return found

    monkeypatch.setattr(history.metrics, "evaluate", blind)
    seen = {}

    def keep(self, row, table):
        seen.update(row=row, table=pa.concat_tables(table))
        return True

    monkeypatch.setattr(Store, "write_row", keep)
    again = dataclasses.replace(job, paths=dataclasses.replace(job.paths, outputs=job.paths.outputs + "2"))
    run.train(again)
    assert seen["row"]["selected_epoch"] == store.row(run_id)["selected_epoch"]
    assert seen["table"].equals(store.table(run_id))
    assert np.isnan(seen["row"]["epochs"][seen["row"]["selected_epoch"] - 1]["test"]["accuracy"])


def test_ties_go_to_the_earliest_epoch_and_nan_is_never_best():
    selector = EpochSelector()
    for epoch, accuracy in enumerate([float("nan"), 0.5, 0.7, 0.7, None, 0.6]):
        selector.improves(epoch, accuracy)
    assert (selector.epoch, selector.best) == (2, 0.7)


def test_the_last_epoch_and_no_selection_series(bound):
    store, run_id = train(bound("source=small_real", "selection=last"))
    row = store.row(run_id)
    assert row["selected_epoch"] == 3
    assert all(e["selection"] is None for e in row["epochs"])


def test_training_is_in_training_mode(bound):
    """Dropout on, in the loss and in DIMP's denominator: transformers hands models over in eval mode."""
    from synthweight.training import module

    modes = []
    step = module.ClassifierModule.training_step

    def watched(self, batch, i):
        modes.append(all(m.training for m in self.network.modules()))
        return step(self, batch, i)

    module.ClassifierModule.training_step = watched
    try:
        train(bound())
    finally:
        module.ClassifierModule.training_step = step
    assert modes
    assert all(modes)


def test_a_loss_that_is_not_finite_fails_loudly(bound, monkeypatch):
    from synthweight.losses import functional

    weighted_nll = functional.weighted_nll
    monkeypatch.setattr(
        functional, "weighted_nll", lambda weights, nll: weighted_nll(weights, nll) * float("nan")
    )
    with pytest.raises(UserError, match="epoch 1: the training loss is nan"):
        run.train(bound())
    assert Store(bound().paths.outputs).ids() == set()


def test_precision_bf16(bound):
    store, run_id = train(bound("trainer.precision=bf16-mixed", "loss=dimp"))
    assert store.row(run_id)["config"]["trainer"]["precision"] == "bf16-mixed"


def test_it_learns(bound):
    """The toy's classes differ by their words: a tiny encoder from scratch must find that."""
    store, run_id = train(bound("optim.epochs=12"))
    row = store.row(run_id)
    assert row["epochs"][row["selected_epoch"] - 1]["test"]["accuracy"] > 0.7


def test_the_real_encoder_trains_on_real_synthetic_texts(bound, tmp_path):
    """MiniLM, 96 LLM-written reviews of the committed set, two epochs: better than always the majority."""
    from support.toy import write
    from synthweight.config import schema

    rows = [
        json.loads(x)
        for x in (schema.DATA / "product_reviews" / "synthetic.jsonl").read_text("utf-8").splitlines()
    ]
    for split, part in {
        "small_real": rows[0::12][:60],
        "test": rows[1::12][:90],
        "synthetic": rows[2::8][:96],
    }.items():
        write(tmp_path / "real" / f"{split}.jsonl", part)
    job = bound(
        f"dataset.path={tmp_path / 'real'}",
        "model.path=null",
        "optim.lr=3e-4",
        "optim.epochs=3",
        "trainer.precision=bf16-mixed",
    )
    store, run_id = train(job)
    row = store.row(run_id)
    data = sources.build_run_data(job)
    targets = data.targets(data.test)
    majority = np.bincount(targets).max() / len(targets)
    assert row["epochs"][row["selected_epoch"] - 1]["test"]["accuracy"] > majority + 0.15
