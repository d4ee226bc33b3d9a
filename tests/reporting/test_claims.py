"""Claims judged by rows made by hand."""

import dataclasses

import numpy as np
import pytest
from scipy import stats

from support.rows import predictions_table, row, row_set
from synthweight.errors import UserError
from synthweight.reporting.claims import Claim, Judgement, judge_claim, read_claims, to_markdown
from synthweight.reporting.significance import difference, paired_t, pooled
from synthweight.runs.store import Store

N = 200
TRUTH = "xy" * (N // 2)
DIMP_BEATS_CE = {"sweep": "demo", "first": {"loss.name": "dimp"}, "second": {"loss.name": ["ce", "focal"]}}


def predictions(rate: float, seed: int) -> str:
    """Predictions of which a share is right."""
    right = np.random.default_rng([seed, round(100 * rate)]).uniform(size=N) < rate
    return "".join(t if ok else {"x": "y", "y": "x"}[t] for t, ok in zip(TRUTH, right, strict=True))


@pytest.fixture
def made(bound, tmp_path):
    """CE and DIMP on two datasets, five seeds each; DIMP is better by 15 points, and takes a tenth longer."""
    store = Store(tmp_path / "made")
    store.prepare()
    runs, predicted = [], {}
    for dataset in ("one", "two"):
        for loss, rate, seconds in (("ce", 0.6, 100.0), ("dimp", 0.75, 110.0)):
            run = bound(f"loss={loss}")
            for seed in range(5):
                run_id = f"{dataset}{loss}{seed}"
                predicted[run_id] = predictions(rate, seed)
                epochs = [
                    {"test": {"accuracy": a}, "selection": {"accuracy": a}} for a in (0.5, 0.5 + rate / 10)
                ]
                took = {"scores": 0.0, "weights": 0.0, "train": seconds + seed}
                none = {"quality": None, "diversity": None}
                config = {"source": {"name": "synthetic", "n": None}}
                more = {"epochs": epochs, "seconds": took, "checkers": none, "config": config}
                store.write_row(row(run_id, rate, **more), predictions_table(TRUTH, predicted[run_id]))
                named = dataclasses.replace(run.dataset, name=dataset)
                runs.append((run_id, dataclasses.replace(run, seed=seed, dataset=named)))
    return store, runs, predicted


def numbers(texts: list[str]) -> np.ndarray:
    return np.array([["xy".index(letter) for letter in text] for text in texts])


def test_a_claim_is_confirmed_or_refuted_by_the_same_test_as_tables(made):
    store, runs, predicted = made
    rows = row_set(store, runs[:10])
    judged = judge_claim(Claim("DIMP beats CE", **DIMP_BEATS_CE), rows)
    first, second = (numbers([predicted[f"one{loss}{s}"] for s in range(5)]) for loss in ("dimp", "ce"))
    expected = difference(first, second, numbers([TRUTH])[0], 2, "accuracy")
    assert judged.overall.mean == pytest.approx(100 * expected.mean)
    assert (judged.overall.low, judged.overall.p) == (pytest.approx(100 * expected.low), expected.p)
    assert (judged.verdict, judged.seeds) == ("confirmed", (5,))
    turned = Claim("CE beats DIMP", "demo", DIMP_BEATS_CE["second"], DIMP_BEATS_CE["first"])
    assert judge_claim(turned, rows).verdict == "refuted"
    assert judge_claim(dataclasses.replace(turned, smaller=True), rows).verdict == "confirmed"


def test_over_datasets_and_below_five_seeds(made):
    store, runs, _ = made
    claim = Claim("DIMP beats CE", **DIMP_BEATS_CE)
    judged = judge_claim(claim, row_set(store, runs))
    assert list(judged.by_dataset) == ["one", "two"]
    low, high = sorted(d.mean for d in judged.by_dataset.values())
    assert low <= judged.overall.mean <= high
    few = [(run_id, run) for run_id, run in runs if run.seed < 4]
    assert judge_claim(claim, row_set(store, few)) == Judgement()
    text = to_markdown([claim, claim], [judged, Judgement()])
    assert "| DIMP beats CE | +" in text
    assert "| 2, 5 | **" in text
    assert "| DIMP beats CE | – | – | **no rows yet** |  |" in text
    assert text.count("- DIMP beats CE: one +") == 1


def test_as_good_as_within_a_margin(made):
    store, runs, _ = made
    rows = row_set(store, runs[:10])
    worse = Claim("CE is as good", "demo", DIMP_BEATS_CE["second"], DIMP_BEATS_CE["first"], margin=1.0)
    assert judge_claim(worse, rows).verdict == "refuted"
    assert judge_claim(dataclasses.replace(worse, margin=40.0), rows).verdict == "confirmed"
    assert judge_claim(dataclasses.replace(worse, margin=15.0), rows).verdict == "undecided"


def test_seconds_are_a_ratio_in_per_cent(made):
    store, runs, _ = made
    little = Claim("DIMP costs little", **DIMP_BEATS_CE, measure="seconds", smaller=True, margin=20.0)
    judged = judge_claim(little, row_set(store, runs[:10]))
    logs = [np.log((110 + s) / (100 + s)) for s in range(5)]
    assert judged.overall.mean == pytest.approx(100 * (np.exp(np.mean(logs)) - 1))
    half = stats.t.ppf(0.975, 4) * stats.sem(logs)
    assert judged.overall.high == pytest.approx(100 * (np.exp(np.mean(logs) + half) - 1))
    assert judged.verdict == "confirmed"
    assert (
        judge_claim(dataclasses.replace(little, margin=5.0), row_set(store, runs[:10])).verdict == "refuted"
    )
    # over datasets the logarithms are pooled, of standard errors that are theirs
    over = judge_claim(little, row_set(store, runs)).overall
    one = paired_t([float(x) for x in logs])
    expected = pooled([one, one])
    assert (over.mean, over.high) == pytest.approx(tuple(100 * np.expm1([expected.mean, expected.high])))


def test_wobble_is_the_deviation_over_epochs(made):
    store, runs, _ = made
    judged = judge_claim(Claim("steadier", **DIMP_BEATS_CE, measure="wobble"), row_set(store, runs[:10]))
    assert judged.overall.mean == pytest.approx(100 * (0.075 - 0.06) / 2**0.5)


def test_settings_that_name_several_kinds_of_runs_are_refused(made):
    store, runs, _ = made
    vague = Claim("vague", "demo", {"source.name": "synthetic"}, {"loss.name": "ce"})
    with pytest.raises(
        UserError, match=r"claim 'vague': .* several runs of one with seed 0: name the setting"
    ):
        judge_claim(vague, row_set(store, runs))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("claim: x", "a list of claims"),
        ("- {claim: x, sweep: demo, first: {}}", r"claim 1: .*second"),
        ("- {claim: x, sweep: demo, first: {}, second: {}, wrong: 1}", r"claim 1: .*wrong"),
        ("- {claim: x, sweep: demo, first: {}, second: {}, measure: taste}", "no measure taste; there are"),
        (
            "- {claim: x, sweep: demo, first: {loss.nam: imp}, second: {}}",
            r"claim 1: loss\.nam: no such setting",
        ),
    ],
)
def test_a_malformed_file_is_refused(tmp_path, content, message):
    (tmp_path / "claims.yaml").write_text(content)
    with pytest.raises(UserError, match=message):
        read_claims(tmp_path / "claims.yaml")
