"""What is kept of a finished run."""

import os

import pytest
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from support.encoders import FAMILIES, make_family
from synthweight.data.tokenization import encode, load_tokenizer
from synthweight.models import classifier
from synthweight.runs.record import save_model

LABELS = ("a", "b", "c")


@pytest.fixture
def umask(request):
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


@pytest.mark.parametrize("umask", [0o022, 0o002, 0o077], indirect=True)
def test_a_kept_model_is_readable_by_whom_the_umask_allows(tiny, tmp_path, umask):
    save_model(classifier.build(tiny, LABELS), tiny, tmp_path / "model")
    modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "model").iterdir()}
    assert {"model.safetensors", "config.json", "tokenizer.json"} <= modes.keys()
    assert set(modes.values()) == {0o666 & ~umask}


@pytest.mark.parametrize("family", FAMILIES)
def test_a_kept_model_is_all_that_transformers_needs(tmp_path, family):
    """Its tokenizer cuts and pads as in training, whatever its files are called."""
    encoder, kept = make_family(tmp_path / "encoder", family), tmp_path / "model"
    tokens = encode(load_tokenizer(encoder), ["good camera", "this player was broken"], None, 16)
    network = classifier.build(encoder, LABELS, tokens)
    save_model(network, encoder, kept)
    padded = AutoTokenizer.from_pretrained(kept)(
        ["good camera", "this player was broken"], padding=True, return_tensors="pt"
    )
    for name in ("input_ids", "attention_mask"):
        assert padded[name].tolist() == tokens.batch([0, 1])[name].tolist()
    again = AutoModelForSequenceClassification.from_pretrained(kept)
    assert again.config.pad_token_id == tokens.pad
    assert all((value == network.state_dict()[name]).all() for name, value in again.state_dict().items())
