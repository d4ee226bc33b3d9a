"""Encoders of the hub, its cache in the shape that the hub's own client reads and writes."""

import shutil

import pytest
from huggingface_hub import constants

from support.cli import run_cli
from synthweight.config import compose
from synthweight.config.schema import Model
from synthweight.errors import UserError
from synthweight.models import pretrained
from synthweight.reporting import publish
from synthweight.runs import run
from synthweight.runs.identity import identify

PIN, COMMIT = "ab" * 32, "0" * 40


@pytest.fixture
def hub(tmp_path, tiny, monkeypatch):
    """A repository with the tiny encoder, and the client's cache, empty; `download` is all that a hub would do."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    pretrained._from_hub.cache_clear()
    folder, asked, snapshot = tmp_path / "hub" / "models--me--tiny", [], pretrained._snapshot

    def download(repository, revision, here=False):
        if not here and repository == "me/tiny":
            asked.append(repository)
            shutil.copytree(tiny, folder / "snapshots" / COMMIT, dirs_exist_ok=True)
            (folder / "refs").mkdir(exist_ok=True)
            (folder / "refs" / "main").write_text(COMMIT)
        return snapshot(repository, revision, here)

    monkeypatch.setattr(pretrained, "_snapshot", download)
    yield asked
    pretrained._from_hub.cache_clear()


def model(**values) -> Model:
    fields = {"name": "tiny", "path": None, "package": None, "folder": None, "hub": "me/tiny", "revision": None, "sha256": PIN}
    return Model(**{**fields, **values})


def test_a_pinned_encoder_is_named_without_its_files(hub):
    assert pretrained.known(model()) is None
    assert pretrained.fingerprint(model()) == PIN
    pretrained.check_length(model(), 10**6)  # waits until they are here
    assert hub == []


def test_an_encoder_without_a_pin_is_fetched_to_be_named(hub, tiny):
    assert pretrained.fingerprint(model(sha256=None)) == pretrained._digest(tiny)
    assert hub == ["me/tiny"]


def test_what_came_is_named_by_its_own_hash(hub, tiny):
    assert pretrained.fetch([model()])
    assert not pretrained.fetch([model()])  # it is here now
    assert hub == ["me/tiny"]
    with pytest.warns(UserWarning, match="its own hash enters the run's id"):
        assert pretrained.fingerprint(model()) == pretrained._digest(tiny)
    with pytest.raises(UserError, match="has 64 positions"):
        pretrained.check_length(model(), 65)


def test_a_pinned_encoder_is_the_one_that_named_its_runs(hub):
    """Whatever the hub has by now: only what is not here is asked for."""
    pretrained.fetch([model()])
    pretrained._from_hub.cache_clear()
    assert pretrained.locate(model()) == pretrained.known(model())
    assert hub == ["me/tiny"]


def test_half_a_download_is_not_here(hub, tmp_path):
    pretrained.fetch([model()])
    for file in (tmp_path / "hub").rglob("model.safetensors"):
        file.unlink()
    assert pretrained.known(model()) is None


def test_an_unreachable_hub_in_one_line(hub):
    with pytest.raises(UserError, match="me/none cannot be loaded from the hub .* give model.path=FOLDER"):
        pretrained.fetch([model(hub="me/none")])


def on_hub(values: list[str], repository: str = "me/tiny") -> list[str]:
    """The settings of runs whose encoder is on the hub alone."""
    kept = [v for v in values if not v.startswith("model.path")]
    return [*kept, f"model.hub={repository}", "model.package=null", f"model.sha256={PIN}"]


@pytest.mark.filterwarnings("ignore:.*its own hash")
def test_a_run_is_named_by_the_files_that_came(hub, settings):
    with compose.offline(compose.CONF):
        job = compose.Composer("config").run(on_hub(settings))
    before = identify(job).id
    done = run.train(job)
    assert (done.status, hub) == ("trained", ["me/tiny"])
    assert done.id == identify(job).id != before


@pytest.mark.filterwarnings("ignore:.*its own hash")
def test_a_sweep_fetches_before_it_begins(hub, small):
    path, values = small
    ours = on_hub(values)
    planned = publish.sweep_report(str(path), *ours).plan
    assert hub == []  # a plan and a table do without
    assert run_cli("sweep", str(path), *ours, "seed=0") == 0
    assert hub == ["me/tiny"]
    assert all(job.done for job in publish.sweep_report(str(path), *ours, "seed=0").plan.rows)
    assert not any(job.who.id in planned.store.ids() for job in planned.jobs)


def test_a_sweep_without_its_encoder_begins_nothing(hub, small, capfd):
    path, values = small
    ours = on_hub(values, "me/none")
    assert run_cli("sweep", str(path), *ours) == 2
    assert "me/none cannot be loaded from the hub" in capfd.readouterr().err
    planned = publish.sweep_report(str(path), *ours).plan
    assert not planned.store.root.exists()
    with pytest.raises(UserError, match="8 of 8 runs have no row"):  # not: no such encoder
        publish.make_table(str(path), ours)
