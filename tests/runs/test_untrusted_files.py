"""Files from elsewhere run no code here: each place that loads one is given a file that would leave a mark."""

import io
import json
import pickle
from pathlib import Path

import pytest
import torch

from support.cli import run_cli
from support.encoders import changed
from support.training import fit_until, training_job
from synthweight.data.tokenization import load_tokenizer
from synthweight.errors import UserError
from synthweight.models import classifier
from synthweight.runs import run
from synthweight.runs.identity import identify
from synthweight.runs.store import Store

LABELS = ("negative", "neutral", "positive")


class Mark:
    """Unpickled, it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.fixture(params=["pickle", "torch"])
def poison(request, tmp_path):
    """A file's bytes that leave a mark when they are unpickled; there is none at the end."""
    mark, stream = tmp_path / "mark", io.BytesIO()
    if request.param == "torch":
        torch.save({"weight": Mark(mark)}, stream)
        torch.load(io.BytesIO(stream.getvalue()), weights_only=False)
    else:
        pickle.dump({"weight": Mark(mark)}, stream)
        pickle.loads(stream.getvalue())
    assert mark.exists()  # where nothing reads it safely
    mark.unlink()
    yield stream.getvalue()
    assert not mark.exists()


def test_an_encoders_folder(tiny, tmp_path, settings, poison, capfd):
    folder = changed(tiny, tmp_path / "encoder")
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(poison)
    given = [*settings, f"model.path={folder}"]
    assert run_cli("train", *given) == 2
    (folder / "pytorch_model.bin").rename(folder / "model.safetensors")
    assert run_cli("train", *given) == 2
    first, second = capfd.readouterr().err.splitlines()
    assert (
        "only pickled weights (pytorch_model.bin), which are never read: save them as model.safetensors"
        in first
    )
    assert "not readable as safetensors" in second


def test_a_kept_model(tiny, tmp_path, poison):
    kept = tmp_path / "model"
    classifier.build(tiny, LABELS).save_pretrained(kept)
    (kept / "model.safetensors").unlink()
    (kept / "pytorch_model.bin").write_bytes(poison)
    with pytest.raises(UserError, match="only pickled weights"):
        classifier.load(kept, LABELS)
    (kept / "pytorch_model.bin").rename(kept / "model.safetensors")
    with pytest.raises(UserError, match="not readable"):
        classifier.load(kept, LABELS)


def test_a_cache_of_tokens(tiny, tmp_path, bound, poison):
    whole = training_job(bound()).train[0].ids.tolist()
    written = list((tmp_path / "cache" / "tokens").iterdir())
    assert written
    for file in written:
        file.unlink()  # what is mapped of it stays
        file.write_bytes(poison)
    assert training_job(bound()).train[0].ids.tolist() == whole


@pytest.mark.filterwarnings("ignore:Detected pickle protocol:UserWarning")  # torch refuses the file after it
def test_a_checkpoint(bound, tmp_path, poison):
    """The run starts from its beginning."""
    wanted = identify(bound("optim.epochs=3"))
    store = Store(tmp_path / "outputs")
    fit_until(training_job(wanted.run), run.checkpoints_for(store, wanted), 3)
    written = [path for path in store.run_folder(wanted.id).rglob("checkpoint*") if path.is_file()]
    written += [
        path for folder in store.run_folder(wanted.id).glob("checkpoint-*") for path in folder.rglob("*")
    ]
    assert written
    for path in written:
        path.write_bytes(poison)
    assert run.train(wanted.run).status == "trained"


CODE = "import pathlib; pathlib.Path({mark!r}).touch()\n"
AUTO = {"AutoConfig": "m.C", "AutoModelForSequenceClassification": "m.M", "AutoTokenizer": ["m.T", None]}


@pytest.fixture
def with_code(tiny, tmp_path):
    """An encoder's folder with a module that leaves a mark; there is none at the end."""
    folder = changed(tiny, tmp_path / "coded")
    (folder / "m.py").write_text(CODE.format(mark=str(tmp_path / "mark")))
    yield folder
    assert not (tmp_path / "mark").exists()


def edit(path: Path, **values) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_an_architecture_of_its_own(with_code, settings, capfd, monkeypatch):
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("it asks"))
    edit(with_code / "config.json", model_type="mine", auto_map=AUTO)
    assert run_cli("train", *settings, f"model.path={with_code}") == 2
    *_, line = capfd.readouterr().err.splitlines()  # before it: that auto_map is ignored
    assert "it needs code of its own, which is never run" in line


def test_a_tokenizer_of_its_own(with_code, monkeypatch):
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("it asks"))
    edit(with_code / "tokenizer_config.json", tokenizer_class="Mine", auto_map=AUTO)
    load_tokenizer(with_code)


def test_a_known_architecture_with_code_beside_it_is_read_without(with_code, tiny, monkeypatch):
    """Transformers' own class takes the folder's weights, or refuses them."""
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("it asks"))
    edit(with_code / "config.json", auto_map=AUTO)
    edit(with_code / "tokenizer_config.json", auto_map=AUTO)
    torch.manual_seed(0)
    network = classifier.build(with_code, LABELS)
    torch.manual_seed(0)
    expected = classifier.build(tiny, LABELS).state_dict()
    assert type(network).__module__.startswith("transformers.")
    assert all(torch.equal(value, expected[name]) for name, value in network.state_dict().items())
    assert load_tokenizer(with_code)("good")["input_ids"] == load_tokenizer(tiny)("good")["input_ids"]
