"""What a run reads, where users' files are not as they should be: labels, classes, overlaps, ids."""

import json
import unicodedata

import pytest

from support.toy import write
from synthweight.data import sources
from synthweight.data.examples import data_hash
from synthweight.errors import UserError

SPLITS = ("small_real", "test", "synthetic")


@pytest.fixture
def changed(toy, tmp_path, bound):
    """Binds a run on the toy benchmark with some rows changed: changed(synthetic=lambda rows:
    …)("source=mixed", …).
    """

    def make(**edits):
        for split in SPLITS:
            rows = [json.loads(line) for line in (toy / f"{split}.jsonl").read_text().splitlines()]
            write(tmp_path / "changed" / f"{split}.jsonl", edits.get(split, lambda rows: rows)(rows))
        return lambda *overrides: bound(f"dataset.path={tmp_path / 'changed'}", *overrides)

    return make


def relabel(old: str, new: str, every: int = 1):
    """Renames a label in every so many of its rows."""

    def edit(rows):
        own = [row for row in rows if row["label"] == old]
        for row in own[::every]:
            row["label"] = new
        return rows

    return edit


COMPOSED, DECOMPOSED = (unicodedata.normalize(form, "négative") for form in ("NFC", "NFD"))


@pytest.mark.parametrize("other", ["Negative", "negative ", "NEGATIVE", "\u00a0negative", "ｎegative"])
@pytest.mark.parametrize("split", SPLITS)
def test_labels_that_differ_in_form_only_are_refused_or_united(changed, other, split):
    job = changed(**{split: relabel("negative", other, every=4)})
    with pytest.raises(UserError) as caught:
        sources.build_run_data(job())
    message = str(caught.value)
    assert f"{split}.jsonl:1: labels" in message
    assert repr(other) in message
    assert "'negative'" in message
    assert "dataset.unite_labels=true" in message
    data = sources.build_run_data(job("dataset.unite_labels=true"))
    assert data.labels == ("negative", "neutral", "positive")
    assert data.record == sources.build_run_data(changed()()).record  # as if it had been spelt so


def test_unicode_forms_of_a_label_are_one(changed):
    edits = {split: relabel("negative", COMPOSED) for split in SPLITS} | {
        "synthetic": relabel("negative", DECOMPOSED)
    }
    with pytest.raises(
        UserError, match=r"labels 'ne\\u0301gative' and 'n\\xe9gative' differ in case, white space or Unicode"
    ):
        sources.build_run_data(changed(**edits)())
    assert COMPOSED in sources.build_run_data(changed(**edits)("dataset.unite_labels=true")).labels


def test_the_spelling_of_a_united_label_is_the_most_frequent_of_dprime_or_the_one_given(changed):
    rare = changed(small_real=relabel("negative", "Negative", every=3), test=relabel("negative", "NEGATIVE"))
    assert sources.build_run_data(rare("dataset.unite_labels=true")).labels == (
        "negative",
        "neutral",
        "positive",
    )
    given = sources.build_run_data(
        rare("dataset.unite_labels=true", "dataset.labels=[Negative,neutral,positive]")
    )
    assert given.labels == ("Negative", "neutral", "positive")


def test_an_unknown_label_is_named_by_file_and_line(changed):
    def wrong(rows):
        rows[5]["label"] = "great"
        return rows

    with pytest.raises(
        UserError, match=r"synthetic\.jsonl:6: unknown label 'great': D_P' has negative, neutral, positive"
    ):
        sources.build_run_data(changed(synthetic=wrong)())
    for labels in ("[negative,neutral,positive]", "null"):
        with pytest.raises(UserError, match=r"test\.jsonl:6: unknown label 'great'"):
            sources.build_run_data(
                changed(test=wrong)(f"dataset.labels={labels}", "dataset.unite_labels=true")
            )


def test_classes_without_an_example_to_train_on_are_said_and_kept(changed, caplog):
    job = changed(synthetic=lambda rows: [row for row in rows if row["label"] == "negative"])()
    for _ in range(2):
        data = sources.build_run_data(job)
    assert data.record["synthetic"]["absent"] == ["neutral", "positive"]
    said = [r.message for r in caplog.records if r.levelname == "WARNING"]
    assert len(said) == 1
    assert "no example of class 'neutral', 'positive' to train on (negative 32)" in said[0]
    assert sources.build_run_data(changed()()).record["synthetic"]["absent"] == []
    mixed = changed(synthetic=lambda rows: rows[::3])("source=mixed", "selection=last")
    assert sources.build_run_data(mixed).record["synthetic"]["absent"] == []  # D_P' has them


def test_test_examples_that_dprime_has_or_that_bear_two_labels_are_said_and_kept(changed, toy, caplog):
    shared = json.loads((toy / "small_real.jsonl").read_text().splitlines()[3])

    def edit(rows):
        other = next(row for row in rows if row["label"] != "neutral")
        return [*rows, shared, other | {"label": "neutral", "text": other["text"].upper()}]

    record = sources.build_run_data(changed(test=edit)()).record
    assert record["small_real"]["overlap"] == {"test": 1}
    assert record["test"]["conflicting"] == 1
    said = " ".join(r.message for r in caplog.records if r.levelname == "WARNING")
    assert "1 of 45 examples of D_P' are in test too" in said
    assert f"small_real.jsonl:4, {shared['text'][:20]!r}"[:-1] in said
    assert "texts of test that come with more than one label: 1" in said


def test_ids_of_mixed_are_unique_by_split(changed):
    numbered = {split: lambda rows: [row | {"id": i} for i, row in enumerate(rows)] for split in SPLITS}
    train = sources.build_run_data(changed(**numbered)("source=mixed", "selection=last")).train
    assert [e.id for e in train] == [*map(str, range(96)), *(f"small_real/{i}" for i in range(45))]
    plain = sources.build_run_data(changed()("source=mixed", "selection=last")).train
    assert [e.text for e in plain] == [e.text for e in train]
    assert data_hash(plain) != data_hash(train)

    synthetic = lambda rows: [row | {"id": "small_real/95" if i == 0 else i} for i, row in enumerate(rows)]  # noqa: E731
    real = lambda rows: [row | {"id": 95 if i == 0 else f"a{i}"} for i, row in enumerate(rows)]  # noqa: E731
    with pytest.raises(UserError, match=r"source=mixed: id 'small_real/95' is in D_Q or D_P' already"):
        sources.build_run_data(
            changed(synthetic=synthetic, small_real=real)("source=mixed", "selection=last")
        )


def test_a_checker_does_not_train_on_what_its_run_holds_out(bound):
    """Of the whole D_P' the run selects by one part, and its quality checker reserves the same."""
    held = sources.build_run_data(bound("selection=holdout", "selection.holdout=0.2"))
    checker = sources.build_run_data(bound("source=small_real", "selection=last", "selection.reserve=0.2"))
    whole = sources.build_run_data(bound("source=small_real", "selection=last"))
    assert len(held.selection) == round(0.2 * len(whole.train))
    assert {e.id for e in checker.train} == {e.id for e in whole.train} - {e.id for e in held.selection}
    assert checker.selection == held.selection


def test_a_hold_out_that_cannot_be_names_a_share_that_can(changed):
    def two_a_class(rows):
        return rows[:6]

    job = changed(small_real=two_a_class)
    with pytest.raises(
        UserError, match=r"holding out 0\.2 of D_P' leaves a part without class '\w+': 0\.\d+ would do"
    ) as caught:
        sources.build_run_data(job("source=small_real", "selection=holdout"))
    share = str(caught.value).split(": ")[-1].split()[0]
    data = sources.build_run_data(job("source=small_real", "selection=holdout", f"selection.holdout={share}"))
    assert len(data.train) == len(data.selection) == 3
    with pytest.raises(UserError, match="no share would do, use selection=last"):
        sources.build_run_data(
            changed(small_real=lambda rows: rows[:3])("source=small_real", "selection=holdout")
        )
