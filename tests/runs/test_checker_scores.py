"""Checkers in folds: who trains on what, who scores whom, and by which temperature."""

import dataclasses
import re

import numpy as np
import pyarrow.parquet as pq
import pytest

from synthweight.config import compose
from synthweight.data import sources
from synthweight.data.examples import Example, data_hash, text_hash
from synthweight.errors import UserError
from synthweight.runs import calibration, checker_runs, checker_scores, run
from synthweight.runs.identity import identify
from synthweight.runs.store import Store
from synthweight.sweeps import plan
from synthweight.training import devices

CALIBRATED = ["checker.quality.calibrate=true", "checker.calibration_folds=3"]
CROSSED = ["checker.diversity.folds=3"]


def left_out_scores(store, checkers, labels):
    """What each fold's run says of the fold that it left out, from its scores file: id → log p of all
    classes, and the labels.
    """
    known, targets = {}, {}
    for checker in checkers:
        left = sources.build_run_data(checker.run).held_out_fold
        file = store.run_folder(checker.id) / "scores" / f"{data_hash(left)}.parquet"
        for x in pq.read_table(file).to_pylist():
            known[x["id"]] = np.array(x["log_probs"])
            targets[x["id"]] = labels.index(x["label"])
    return known, targets


def trained_on(store, checker):
    return {x["id"] for x in store.table(checker.id).to_pylist() if x["split"] == "train"}


def weights_of(store, run_id):
    return {
        x["id"]: x["weight"]
        for x in store.table(run_id).to_pylist()
        if x["split"] == "train" and x["epoch"] == 1
    }


def test_a_calibrated_quality_checker(bound, caplog):
    job = bound("loss=quality_only", *CALIBRATED)
    identity, plain = identify(job), identify(bound("loss=quality_only"))
    assert list(identity.checkers) == ["quality", "quality/0", "quality/1", "quality/2"]
    assert identity.checkers["quality"].id == plain.checkers["quality"].id
    assert len({identity.id, plain.id, *(c.id for c in identity.checkers.values())}) == 6
    with caplog.at_level("INFO"):
        run.train(job)
    started = re.findall(r"local (.*): epoch 1/", caplog.text)
    assert started == ["small_real ce tiny seed 0"] + [
        f"small_real less fold {i} of 3 ce tiny seed 0" for i in range(3)
    ] + ["synthetic quality_only tiny seed 0"]  # fmt: skip

    store = Store(job.paths.outputs)
    row = store.row(identity.id)
    assert row["checkers"] == {"diversity": None} | {key: c.id for key, c in identity.checkers.items()}
    assert all(store.row(i)["config"]["loss"]["name"] == "ce" for i in row["checkers"].values() if i)
    known, targets = left_out_scores(store, identity.folds("quality"), row["labels"])
    t = calibration.temperature(np.stack(list(known.values())), np.array(list(targets.values())))
    assert row["temperatures"] == {"quality": pytest.approx(t), "diversity": None}
    assert abs(t - 1) > 0.01

    run.train(bound("loss=quality_only"))
    assert store.row(plain.id)["temperatures"] == {"quality": None, "diversity": None}
    material = sources.build_run_data(job)
    file = (
        store.run_folder(identity.checkers["quality"].id) / "scores" / f"{data_hash(material.train)}.parquet"
    )
    log_probs = np.array(pq.read_table(file)["log_probs"].to_pylist())
    given = calibration.rescale(log_probs, t)[np.arange(96), material.targets(material.train)]
    np.testing.assert_allclose(list(weights_of(store, identity.id).values()), np.exp(given), rtol=1e-4)
    assert weights_of(store, identity.id) != weights_of(store, plain.id)


def test_a_cross_fitted_diversity_checker_never_scores_what_it_saw(bound):
    job = bound("loss=imp", *CROSSED)
    identity = identify(job)
    assert list(identity.checkers) == ["diversity/0", "diversity/1", "diversity/2", "quality"]
    run.train(job)
    store = Store(job.paths.outputs)
    row = store.row(identity.id)
    assert row["checkers"]["diversity"] is None
    assert row["temperatures"] == {"quality": None, "diversity": None}
    everything = {e.id for e in sources.build_run_data(job).train}
    left = [{e.id for e in sources.build_run_data(c.run).held_out_fold} for c in identity.folds("diversity")]
    assert sum(map(len, left)) == len(everything) == 96
    assert set.union(*left) == everything
    for checker, fold in zip(identity.folds("diversity"), left, strict=True):
        assert trained_on(store, checker) == everything - fold
        files = list((store.run_folder(checker.id) / "scores").iterdir())
        # and was asked for nothing else
        assert [set(pq.read_table(f)["id"].to_pylist()) for f in files] == [fold]
    q, targets = left_out_scores(store, identity.folds("diversity"), row["labels"])
    run.train(bound("loss=quality_only"))
    p = weights_of(store, identify(bound("loss=quality_only")).id)
    for i, weight in weights_of(store, identity.id).items():
        assert weight == pytest.approx(p[i] / np.exp(q[i][targets[i]]), rel=1e-4)


def test_a_cross_fitted_checker_is_calibrated_by_its_own_folds(bound):
    both = bound("loss=imp", *CROSSED, "checker.diversity.calibrate=true", "checker.calibration_folds=4")
    identity, plain = identify(both), identify(bound("loss=imp", *CROSSED))
    assert {k: c.id for k, c in identity.checkers.items()} == {k: c.id for k, c in plain.checkers.items()}
    assert identity.id != plain.id  # though its checkers are the same runs
    run.train(both)
    store = Store(both.paths.outputs)
    row = store.row(identity.id)
    known, targets = left_out_scores(store, identity.folds("diversity"), row["labels"])
    t = calibration.temperature(np.stack(list(known.values())), np.array(list(targets.values())))
    assert row["temperatures"]["diversity"] == pytest.approx(t)


def test_a_calibrated_diversity_checker_has_a_run_on_all_and_its_folds(bound):
    identity = identify(bound("loss=imp", "checker.diversity.calibrate=true"))
    assert list(identity.checkers) == ["diversity", *(f"diversity/{i}" for i in range(5)), "quality"]
    assert identity.checkers["diversity"].id == identify(bound("loss=ce")).id
    assert (
        identify(bound("loss=dimp", "checker.diversity.calibrate=true")).id == identify(bound("loss=dimp")).id
    )


def test_folds_are_drawn_from_the_data_and_keep_equal_texts_together(bound):
    """Both of a duplicate's twins are seen or left out, and the seed has no say where the data is the same."""
    one, two = (
        sources.build_run_data(bound("source.folds=3", "source.fold=1", f"seed={seed}")) for seed in (0, 1)
    )
    assert (one.train, one.held_out_fold) == (two.train, two.held_out_fold)
    for fold in range(3):
        harmed = sources.build_run_data(
            bound("corruption=noisy", "corruption.duplicated=0.4", "source.folds=3", f"source.fold={fold}")
        )
        assert not {e.text for e in harmed.train} & {e.text for e in harmed.held_out_fold}
        assert (
            {e.label for e in harmed.train} == {e.label for e in harmed.held_out_fold} == set(harmed.labels)
        )


def test_more_folds_than_texts_of_a_class_are_refused_before_anything_is_trained(bound):
    with pytest.raises(
        UserError, match="source.folds=16: class 'negative' has 15 different texts to train on"
    ) as caught:
        identify(bound("loss=dimp", "checker.quality.calibrate=true", "checker.calibration_folds=16"))
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="source.folds=33: class 'negative' has 32"):
        identify(bound("loss=imp", "checker.diversity.folds=33"))


def test_a_holdout_and_a_share_are_cut_before_the_folds(bound):
    job = bound("loss=dimp", "selection=holdout", "checker.quality.share=0.5", *CALIBRATED)
    held = {e.id for e in sources.build_run_data(job).selection}
    parts = [sources.build_run_data(checker_runs.checker_run(job, f"quality/{i}")) for i in range(3)]
    whole = {e.id for e in sources.build_run_data(checker_runs.checker_run(job, "quality")).train}
    assert len(whole) == 18
    for part in parts:
        assert {e.id for e in part.train} | {e.id for e in part.held_out_fold} == whole
        assert not whole & held


def test_what_is_done_to_the_weights_names_the_run_but_not_its_checkers(bound):
    plain, clipped = identify(bound("loss=imp")), identify(bound("loss=imp", "weighting.clip=2"))
    assert clipped.id != plain.id
    assert {k: c.id for k, c in clipped.checkers.items()} == {k: c.id for k, c in plain.checkers.items()}
    assert identify(bound("loss=imp", "weighting.self_normalise=true")).id not in (plain.id, clipped.id)


def test_a_plan_adds_the_folds_first(settings):
    given = [*settings, "loss=imp", *CALIBRATED, *CROSSED]
    with compose.offline(compose.CONF):
        composer = compose.Composer("config")
        planned = plan.plan_sweep(composer, [], given)
    first, rest = planned.todo[:7], planned.todo[7:]
    assert [(j.identity.run.source.name, j.identity.run.source.fold) for j in first] == [
        ("synthetic", 0), ("synthetic", 1), ("synthetic", 2),
        ("small_real", None), ("small_real", 0), ("small_real", 1), ("small_real", 2),
    ]  # fmt: skip
    assert not any(job.row for job in first)
    assert [job.identity.run.loss.name for job in rest] == ["imp"]
    with compose.offline(compose.CONF):
        for job in first:
            assert identify(compose.Composer("config").run(job.overrides)).id == job.id


@pytest.mark.parametrize("padding", ["false", "true"])
def test_scores_in_bf16_are_near_those_in_fp32(bound, monkeypatch, padding):
    # without its own units a CPU does it too, slowly
    monkeypatch.setattr(devices, "bf16_products", lambda: True)
    ids, scores = [], {}
    for precision in ("32", "bf16-mixed"):
        job = bound("loss=imp", f"trainer.precision={precision}", f"trainer.padding={padding}")
        run.train(job)
        identity, store = identify(job), Store(job.paths.outputs)
        ids += [identity.id, *(checker.id for checker in identity.checkers.values())]
        (file,) = (store.run_folder(identity.checkers["quality"].id) / "scores").iterdir()
        own = [x for x in store.table(identity.checkers["diversity"].id).to_pylist() if x["split"] == "train"]
        lines = pq.read_table(file).to_pylist() + own
        scores[precision] = np.array([x["log_probs"] for x in lines if x["log_probs"] is not None])
    assert len(set(ids)) == 6
    assert len(scores["32"]) == 2 * 96
    assert not np.array_equal(scores["32"], scores["bf16-mixed"])
    np.testing.assert_allclose(scores["32"], scores["bf16-mixed"], atol=0.05)


def test_ids_that_the_checker_knows_by_other_texts_are_scored_anew(bound):
    """Both sets may number their examples from 0."""
    job = bound("loss=ce", "source=small_real", "selection=last")
    run.train(job)
    store, checker, data = Store(job.paths.outputs), identify(job), sources.build_run_data(job)
    others = data.test[:5]
    renamed = tuple(dataclasses.replace(o, id=e.id) for o, e in zip(others, data.train, strict=False))
    scored = [run.checker_log_probs(store, checker, examples) for examples in (others, renamed)]
    np.testing.assert_array_equal(*scored)


def test_scores_of_another_text_are_refused():
    """An id that names another text than when it was scored."""
    scored, other = Example("synthetic:0", "a", None, "x"), Example("synthetic:0", "b", None, "x")
    known = {scored.id: (text_hash(scored), np.array([-0.1, -2.3], dtype=np.float32))}
    swapped = Example("synthetic:0", "a", None, "y")  # a label is the training side's affair
    assert checker_scores.join(known, [scored, swapped], "ab").tolist() == [known[scored.id][1].tolist()] * 2
    with pytest.raises(UserError, match="checker ab: its scores know synthetic:0 by another text"):
        checker_scores.join(known, [other], "ab")


def test_a_swapped_label_gets_its_own_score():
    swapped = Example("a:0", "t", None, "y", kind="swapped")
    data = sources.RunData(("x", "y"), (swapped,), (), (), {})
    scores, t = checker_scores.label_scores("quality", data, np.log([[0.9, 0.1]]), [], False)
    assert scores[0] == pytest.approx(np.log(0.1))
    assert t is None
