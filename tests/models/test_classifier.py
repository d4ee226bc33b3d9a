"""Batches of every family of encoders that is loaded here."""

import json

import numpy as np
import pytest
import torch

from support.encoders import FAMILIES, SEP, make_family
from synthweight.data.tokenization import encode, load_tokenizer
from synthweight.models import classifier
from synthweight.training.predict import log_probs

TEXTS = [
    "good camera",
    "this player was broken and useless it is a refund",
    "love it",
    "awful",
    "the phone is great",
]


@torch.no_grad()
def scores(network, batch):
    return network(**classifier.inputs(batch)).logits.log_softmax(-1).numpy()


@pytest.mark.parametrize("family", FAMILIES)
def test_a_texts_logits_do_not_depend_on_its_batch(tmp_path, family):
    """Padded where the tokenizer says, with its padding token, or with its last where it has none."""
    folder = make_family(tmp_path, family)
    tokens = encode(load_tokenizer(folder), TEXTS, None, 16)
    assert (tokens.side, tokens.pad) == (FAMILIES[family][2], 0 if FAMILIES[family][3] else SEP)
    network = classifier.build(folder, ("a", "b", "c"), tokens).eval()
    alone = np.concatenate([scores(network, tokens.batch([i])) for i in range(5)])
    together = scores(network, tokens.batch([0, 1, 2, 3, 4]))
    np.testing.assert_allclose(together, alone, rtol=0, atol=2e-6)
    assert np.ptp(together, axis=0).min() > 3e-4  # other texts have other logits


def test_a_kept_model_pads_alike_in_transformers_own_pipeline(tmp_path):
    """A classifier that reads the last token, of an encoder and a tokenizer without a padding token."""
    import transformers

    folder = make_family(tmp_path / "model", "gpt2")
    tokenizer = load_tokenizer(folder)
    tokens = encode(tokenizer, TEXTS, None, 16)
    network = classifier.build(folder, ("a", "b", "c"), tokens).eval()
    network.save_pretrained(tmp_path / "kept")
    tokenizer.save_pretrained(tmp_path / "kept")
    assert json.loads((tmp_path / "kept" / "config.json").read_text())["pad_token_id"] == SEP
    own = transformers.pipeline(
        "text-classification", model=str(tmp_path / "kept"), top_k=None, batch_size=5, device="cpu"
    )
    ours = log_probs(network, tokens, 3)
    for found, expected in zip(own(TEXTS), ours, strict=True):
        assert {s["label"]: pytest.approx(s["score"], abs=1e-5) for s in found} == dict(
            zip("abc", np.exp(expected), strict=True)
        )


def test_left_padding_lies_before_the_text(tmp_path):
    folder = make_family(tmp_path, "xlnet")
    batch = encode(load_tokenizer(folder), TEXTS[:2], None, 16).batch([0, 1])
    assert batch["attention_mask"][0].tolist() == [0] * 8 + [1] * 4
    assert torch.equal(batch["input_ids"][0, :8], torch.zeros(8, dtype=torch.long))


@pytest.mark.parametrize("family", FAMILIES)
def test_the_logits_of_a_saved_classifier_are_divided_in_its_folder(tmp_path, family):
    folder, labels = make_family(tmp_path / "encoder", family), ("a", "b", "c")
    tokens = encode(load_tokenizer(folder), TEXTS, None, 16)
    classifier.build(folder, labels, tokens).save_pretrained(tmp_path / "model")

    @torch.no_grad()
    def logits():
        network = classifier.load(tmp_path / "model", labels, tokens).eval()
        return network(**classifier.inputs(tokens.batch([0, 1, 2, 3, 4]))).logits

    before = logits()
    classifier.divide_logits(tmp_path / "model", labels, 2.5)
    torch.testing.assert_close(logits(), before / 2.5)
