"""What makes two runs the same run."""

import dataclasses
import hashlib
import json
from shutil import copytree

import pytest

from support.toy import write
from synthweight.data import sources
from synthweight.errors import UserError
from synthweight.models import pretrained
from synthweight.runs import identity
from synthweight.runs.identity import identify
from synthweight.runs.plan_cache import PlanCache


def test_an_id_by_hand(bound):
    run = bound()
    optim = {
        "lr": 0.005, "batch_size": 16, "epochs": 2, "weight_decay": 0.0, "schedule": "linear", "warmup": 0.0,
        "clip_norm": 1.0, "max_length": 32,
    }  # fmt: skip
    data = {name: split.sha256 for name, split in sources.load_splits(run).items()}
    settings = {
        "dataset": {"name": "local", "drop_overlap": True},
        "source": {"name": "synthetic", "variant": None, "n": None, "folds": 1, "fold": None},
        "loss": {"name": "ce"}, "weighting": {"clip": None, "self_normalise": False}, "calibrated": [],
        "encoder": pretrained.fingerprint(run.model), "optim": optim, "selection": {"split": "dprime"},
        "precision": "32", "padding": False, "batching": "bucketed", "test": "selected", "compile": False, "seed": 0,
    }  # fmt: skip

    def digest(whole):
        return hashlib.sha256(json.dumps(whole, sort_keys=True, separators=(",", ":")).encode()).hexdigest()[
            :16
        ]

    who = identify(run)
    assert who.id == digest({**settings, "data": data, "checkers": {}, "version": identity.VERSION})
    assert set(data) == {"synthetic", "small_real", "test"}


@pytest.mark.parametrize(
    "override",
    ["paths.outputs=elsewhere", "logger=csv", "trainer.threads=1", "trainer.accelerator=auto", "optim.epochs_small_real=9",
     "trainer.keep_model=true", "checker.quality.epochs=4", "checker.quality.calibrate=true", "checker.diversity.folds=5",
     "checker.calibration_folds=3", "selection.holdout=0.3", "loss=ce"],
)  # fmt: skip
def test_what_a_run_does_not_read_does_not_name_it(bound, override):
    assert identify(bound(override)).id == identify(bound()).id


@pytest.mark.parametrize(
    "override",
    ["seed=1", "optim.lr=0.004", "optim.epochs=3", "loss=focal", "source.n=30", "selection=last", "selection=holdout",
     "trainer.precision=bf16-mixed", "optim.max_length=16", "source=large_real", "weighting.clip=2",
     "weighting.self_normalise=true"],
)  # fmt: skip
def test_what_a_run_reads_names_it(bound, override):
    assert identify(bound(override)).id != identify(bound()).id


def test_a_setting_that_this_loss_reads(bound):
    def name(*o):
        return identify(bound(*o)).id

    assert name("loss=focal") != name("loss=focal", "loss.gamma=2")
    assert name("loss=dimp") != name("loss=dimp", "checker.quality.epochs=4")
    assert name("loss=filter") != name("loss=filter", "loss.threshold=0.4")
    assert name("source.folds=2", "source.fold=0") != name("source.folds=2", "source.fold=1")
    assert name("loss=dimp") == name("loss=dimp", "checker.diversity.epochs=4")
    assert name("loss=imp") != name("loss=imp", "checker.diversity.epochs=4")
    assert name("source=large_real") != name("source=large_real", "dataset.drop_overlap=false")


def test_order_of_keys_and_place_of_files_do_not_matter(bound, toy, tiny, tmp_path):
    copytree(toy, tmp_path / "toy")
    copytree(tiny, tmp_path / "tiny")
    moved = bound(f"dataset.path={tmp_path / 'toy'}", f"model.path={tmp_path / 'tiny'}")
    assert identify(moved).id == identify(bound()).id
    settings = {"b": 1, "a": {"d": 2, "c": 3}}
    assert identity.digest(settings) == identity.digest({"a": {"c": 3, "d": 2}, "b": 1})


def test_content_of_data_matters(bound, toy, tmp_path):
    copytree(toy, tmp_path / "toy")
    rows = [json.loads(x) for x in (toy / "synthetic.jsonl").read_text().splitlines()]
    write(tmp_path / "toy" / "synthetic.jsonl", rows[1:])
    changed = identify(bound(f"dataset.path={tmp_path / 'toy'}"))
    assert changed.id != identify(bound()).id


def test_a_checkers_data_names_the_run(bound, toy, tmp_path):
    """IMP's id holds its checkers' ids, so whatever names them names it."""
    one = identify(bound("loss=imp"))
    assert set(one.checkers) == {"quality", "diversity"}
    assert identify(bound("loss=imp", "optim.epochs_small_real=7")).id != one.id


def test_the_diversity_checker_is_the_cross_entropy_baseline(bound):
    assert (
        identify(bound("loss=imp", "seed=3")).checkers["diversity"].id
        == identify(bound("loss=ce", "seed=3")).id
    )


def test_the_quality_checker_is_the_small_real_row(bound):
    quality = identify(bound("loss=dimp", "seed=3")).checkers["quality"]
    assert quality.id == identify(bound("source=small_real", "selection=last", "seed=3")).id
    assert identify(bound("loss=dimp", "source=large_real", "seed=3")).checkers["quality"].id == quality.id


def test_a_share_of_the_real_part_names_a_mixed_run(bound):
    whole, part = (identify(bound("source=mixed", *shares)) for shares in ([], ["source.real_n=15"]))
    assert part.id != whole.id
    assert "real_n" not in whole.settings["source"]  # rows that were made before keep their ids


def test_keys_added_later_leave_old_names_alone():
    old = {"loss": {"name": "ce"}, "seed": 0}
    new = {"loss": {"name": "ce", "clip": None}, "padding": False, "seed": 0}
    frozen = {"loss.clip": None, "padding": False, "absent.key": 1}
    assert identity.without_first_values(new, frozen) == old
    assert identity.without_first_values({**new, "padding": True}, frozen) == {**old, "padding": True}


def test_identity_has_no_paths(bound, tmp_path):
    who = identify(bound("loss=imp"))
    assert "/" not in json.dumps([who.settings, who.data])
    assert dataclasses.is_dataclass(who)


def test_pinned_hashes_name_a_run_whose_data_are_elsewhere(bound, tmp_path):
    wanted = "loss=imp", "checker.quality.share=0.5"
    here = bound(*wanted)
    splits = sources.load_splits(here)
    pins = [f"dataset.sha256.{name}={split.sha256}" for name, split in splits.items()]
    labels = ",".join(sorted(splits["small_real"].labels))
    (tmp_path / "empty").mkdir()
    known = f"dataset.labels=[{labels}]", f"+dataset.sizes.small_real={len(splits['small_real'].examples)}"
    absent = bound(*wanted, f"dataset.path={tmp_path / 'empty'}", *pins, *known)
    found, expected = identify(absent, PlanCache(pinned=True)), identify(here)
    assert found.id == expected.id
    assert {role: c.id for role, c in found.checkers.items()} == {
        role: c.id for role, c in expected.checkers.items()
    }
    with pytest.raises(UserError, match=r"no synthetic\.jsonl in"):
        identify(absent)  # to train it, the data are needed
    unpinned = bound(*wanted, f"dataset.path={tmp_path / 'empty'}", *pins[1:], *known)
    with pytest.raises(UserError, match=r"no synthetic\.jsonl in"):
        identify(unpinned, PlanCache(pinned=True))
