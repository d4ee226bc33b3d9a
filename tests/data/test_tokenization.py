import json
import os
import shutil
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import sentencepiece
import torch
from safetensors.numpy import save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from support.encoders import make_family
from synthweight.data import tokenization as tokens_module
from synthweight.data.batching import (
    WINDOW,
    LengthGroupedBatchSampler,
    RandomBatchSampler,
    evaluation_batches,
    stratified_order,
    training_batches,
)
from synthweight.data.examples import Example
from synthweight.data.tokenization import TokenizedTexts, encode_examples, load_tokenizer, tokenize
from synthweight.errors import UserError


def examples(n=40):
    return tuple(Example(str(i), " ".join(["good"] * (1 + i % 9)), None, "x") for i in range(n))


def test_tokens_equal_the_tokenizers_own_padding(tiny, tmp_path):
    texts = examples(6)
    tokens = tokenize(tiny, "fingerprint", texts, 7, tmp_path)
    batch = tokens.batch([3, 0, 5])
    own = AutoTokenizer.from_pretrained(tiny)(
        [texts[i].text for i in (3, 0, 5)], truncation=True, max_length=7, padding=True, return_tensors="pt"
    )
    for key in ("input_ids", "attention_mask", "token_type_ids"):
        assert torch.equal(batch[key], own[key])
    assert batch["index"].tolist() == [3, 0, 5]


def test_pairs_have_segments(tiny, tmp_path):
    pair = (Example("0", "good box", "bad cable", "x"),)
    batch = tokenize(tiny, "f", pair, 16, tmp_path).batch([0])
    assert batch["token_type_ids"].tolist() == [[0, 0, 0, 0, 1, 1, 1]]


def test_white_space_around_a_text_and_its_pair_is_left_out():
    """By a tokenizer for which a space is a token, as in some families: the text hash knows no such space."""
    characters = Tokenizer(
        models.WordLevel({"[PAD]": 0, "[UNK]": 1, " ": 2, "a": 3, "b": 4}, unk_token="[UNK]")
    )
    characters.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=characters, unk_token="[UNK]", pad_token="[PAD]")
    assert encode_examples(tokenizer, (Example("0", " a a\n", "\tb b ", "x"),), 16).ids.tolist() == [
        3,
        2,
        3,
        4,
        2,
        4,
    ]


def test_texts_are_tokenized_a_part_at_a_time(tiny, tmp_path, monkeypatch):
    """Singles and pairs, the last part a smaller one: the same arrays as in one go."""
    for name, texts in (
        ("singles", examples(7)),
        ("pairs", tuple(Example(e.id, e.text, "bad cable", "x") for e in examples(7))),
    ):
        whole = tokenize(tiny, "f", texts, 16, tmp_path / name)
        monkeypatch.setattr("synthweight.data.tokenization.CHUNK", 3)
        parts = tokenize(tiny, "f", texts, 16, tmp_path / name / "again")
        for key in ("ids", "types", "offsets"):
            np.testing.assert_array_equal(getattr(parts, key), getattr(whole, key))
        monkeypatch.undo()


def test_cached_by_content(tiny, tmp_path, monkeypatch):
    tokenize(tiny, "f", examples(), 16, tmp_path)
    monkeypatch.setattr(
        tokens_module, "encode_examples", lambda *_: (_ for _ in ()).throw(AssertionError("made twice"))
    )
    assert len(tokenize(tiny, "f", examples(), 16, tmp_path)) == 40
    for changed in [("f", examples(39), 16), ("g", examples(), 16), ("f", examples(), 8)]:
        try:
            tokenize(tiny, *changed, tmp_path)
        except AssertionError:
            continue
        raise RuntimeError(f"{changed[0]}, {changed[2]}: taken from another content's cache")


def test_a_damaged_cache_is_made_again(tiny, tmp_path):
    whole = tokenize(tiny, "f", examples(), 16, tmp_path)
    (file,) = (tmp_path / "tokens").iterdir()
    for left in (b"", file.read_bytes()[:-40]):
        file.unlink()  # another file: what is mapped of the first stays
        file.write_bytes(left)
        np.testing.assert_array_equal(tokenize(tiny, "f", examples(), 16, tmp_path).ids, whole.ids)


def test_a_full_disk_keeps_no_half_of_the_cache(tiny, tmp_path, monkeypatch):
    def full(arrays, path):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tokens_module, "save_file", full)
    with pytest.raises(OSError, match="No space left"):
        tokenize(tiny, "f", examples(6), 7, tmp_path)
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []


@pytest.mark.parametrize("kind", [LengthGroupedBatchSampler, RandomBatchSampler])
def test_every_example_once_an_epoch_in_an_order_of_seed_and_epoch(kind):
    given = (np.arange(301) % 17 + 1, np.arange(301) % 3 % 2) if kind is LengthGroupedBatchSampler else (301,)
    sampler = kind(*given, 8, 0)
    epochs = []
    for epoch in (0, 1):
        sampler.sampler.set_epoch(epoch)
        batches = list(sampler)
        assert len(batches) == len(sampler)
        assert sorted(i for b in batches for i in b) == list(range(301))
        epochs.append(batches)
    assert epochs[0] != epochs[1]
    assert list(kind(*given, 8, 0)) == epochs[0]
    assert list(kind(*given, 8, 1)) != epochs[0]


def test_batches_are_of_like_length():
    """Though one label's texts are longer than the other's."""
    rng = np.random.default_rng(0)
    labels = rng.integers(2, size=WINDOW * 32 * 4)
    lengths = rng.integers(5, 100, size=len(labels)) + 8 * labels

    def padded(batches):
        return sum(int(lengths[b].max()) * len(b) for b in batches) / lengths.sum()

    assert (
        padded(LengthGroupedBatchSampler(lengths, labels, 32, 0))
        < 1.25
        < 1.5
        < padded(RandomBatchSampler(len(lengths), 32, 0))
    )


def test_batches_of_like_length_have_every_label_by_its_share():
    """Of 32 texts 12, 4 and 16, though length goes with the label; at random they vary."""
    labels = np.repeat([0, 1, 2], [3, 1, 4])[np.arange(960) % 8]
    lengths = 10 + 20 * labels + np.arange(960) % 7

    def counts(batches):
        return np.array([np.bincount(labels[b], minlength=3) for b in batches])

    assert np.ptp(counts(RandomBatchSampler(960, 32, 0))[:, 1]) > 4
    assert np.abs(counts(LengthGroupedBatchSampler(lengths, labels, 32, 0)) - [12, 4, 16]).max() <= 2


def test_rare_labels_do_not_meet():
    """Sixteen labels of one text each are spread over an epoch's batches, and lie elsewhere in the next
    epoch.
    """
    labels = np.zeros(960, dtype=int)
    labels[:16] = np.arange(1, 17)
    sampler, seen = LengthGroupedBatchSampler(np.ones(960), labels, 32, 0), []
    for epoch in (0, 1):
        sampler.sampler.set_epoch(epoch)
        seen.append([int(np.sum(labels[b] > 0)) for b in sampler])
        assert sum(seen[-1]) == 16
        assert max(seen[-1]) <= 4
    assert seen[0] != seen[1]


def test_stratified_order_is_stable_within_a_label():
    labels, draws = np.array([0, 0, 0, 0, 1, 1]), np.random.default_rng(0)
    for given in ([3, 5, 0, 2, 4, 1], [5, 4, 3, 2, 1, 0]):
        found = stratified_order(np.array(given), labels, draws).tolist()
        for label in (0, 1):
            assert [i for i in found if labels[i] == label] == [i for i in given if labels[i] == label]
        assert {labels[i] for i in found[:3]} == {0, 1}
    assert stratified_order(np.array([], dtype=int), labels, draws).tolist() == []


def test_loaders_cover_everything(tiny, tmp_path):
    tokens, labels = tokenize(tiny, "f", examples(33), 16, tmp_path), np.arange(33) % 2
    for loader in (
        training_batches(tokens, labels, 8, 0, "bucketed"),
        training_batches(tokens, labels, 8, 0, "random"),
        evaluation_batches(tokens, 64),
    ):
        assert sorted(i for b in loader for i in b["index"].tolist()) == list(range(33))
    widths = [b["input_ids"].shape[1] for b in evaluation_batches(tokens, 64)]
    assert widths == sorted(widths, reverse=True)


@pytest.mark.parametrize("most", [100, 30, 7, 3, 10**6])
def test_evaluation_takes_as_many_texts_as_tokens_allow(most):
    """Longest first, in eights where there are more; a text longer than that alone."""
    lengths = np.random.default_rng(0).integers(1, 8, size=50)
    ids = np.arange(lengths.sum()) + 5
    tokens = TokenizedTexts(ids, np.zeros_like(ids), np.concatenate([[0], np.cumsum(lengths)]), 0)
    batches = list(evaluation_batches(tokens, most))
    shapes = [tuple(b["input_ids"].shape) for b in batches]
    assert sorted(i for b in batches for i in b["index"].tolist()) == list(range(50))
    assert all(texts * width <= most or texts == 1 for texts, width in shapes)
    assert all((texts + (1 if texts < 8 else 8)) * width > most for texts, width in shapes[:-1])
    assert all(texts < 8 or texts % 8 == 0 for texts, _ in shapes[:-1])
    assert [width for _, width in shapes] == sorted((width for _, width in shapes), reverse=True)


def test_an_evaluation_leaves_the_random_numbers_of_the_training_alone():
    tokens = TokenizedTexts(np.arange(12), np.zeros(12), np.arange(13), 0)
    before = torch.get_rng_state()
    assert list(evaluation_batches(tokens, 64))
    assert torch.equal(torch.get_rng_state(), before)


def test_the_cache_has_the_mode_that_the_umask_gives(tiny, tmp_path):
    (tmp_path / "other").touch()
    tokenize(tiny, "f", examples(3), 16, tmp_path)
    (file,) = (tmp_path / "tokens").iterdir()
    assert file.stat().st_mode == (tmp_path / "other").stat().st_mode


def test_a_cache_of_an_older_layout_is_made_again(tiny, tmp_path):
    whole = tokenize(tiny, "f", examples(3), 16, tmp_path)
    (file,) = (tmp_path / "tokens").iterdir()
    file.unlink()
    save_file({"ids": whole.ids, "types": whole.types, "offsets": whole.offsets, "pad": np.array([0])}, file)
    again = tokenize(tiny, "f", examples(3), 16, tmp_path)
    assert (again.pad, again.side, again.ids.tolist()) == (whole.pad, whole.side, whole.ids.tolist())


def test_a_tokenizer_without_a_vocabulary_is_refused(tiny, tmp_path):
    """BERT's would take every word for an unknown one."""
    shutil.copytree(tiny, tmp_path / "bare")
    for name in ("tokenizer.json", "vocab.txt"):
        (tmp_path / "bare" / name).unlink()
    with pytest.raises(UserError, match="no vocabulary: tokenizer.json or vocab.txt is missing or empty"):
        load_tokenizer(tmp_path / "bare")


def test_a_tokenizer_without_a_padding_token_pads_with_its_last(tmp_path):
    tokenizer = load_tokenizer(make_family(tmp_path, "gpt2"))
    assert (tokenizer.pad_token, tokenizer.padding_side) == (tokenizer.eos_token, "right")


def test_a_damaged_tokenizer_is_one_line(tiny, tmp_path):
    shutil.copytree(tiny, tmp_path / "bad")
    (tmp_path / "bad" / "tokenizer.json").write_text("{")
    with pytest.raises(UserError, match="its tokenizer cannot be read") as raised:
        load_tokenizer(tmp_path / "bad")
    assert "\n" not in str(raised.value)


def test_a_sentencepiece_model_alone_is_read(tmp_path):
    """As DeBERTa-v3 is published; what is saved needs no such file."""
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "texts").write_text(
        "\n".join(["the good camera", "a bad cable", "this phone was great", "love the screen"] * 50)
    )
    sentencepiece.SentencePieceTrainer.train(
        input=str(tmp_path / "texts"), model_prefix=str(folder / "spm"), vocab_size=26, pad_id=0, unk_id=1, bos_id=2, eos_id=3,
        minloglevel=2,
    )  # fmt: skip
    (folder / "config.json").write_text(json.dumps({"model_type": "deberta-v2"}))
    tokenizer = load_tokenizer(folder)
    ids = tokenizer("the good camera")["input_ids"]
    assert tokenizer.unk_token_id not in ids
    tokenizer.save_pretrained(tmp_path / "saved")
    assert load_tokenizer(tmp_path / "saved")("the good camera")["input_ids"] == ids


def test_processes_that_write_the_same_tokens_do_not_meet(tiny, tmp_path):
    """Three processes, the same twenty sets of texts, one cache."""
    script = f"""
        import sys
        sys.path[:0] = [{os.path.dirname(__file__)!r}, {os.path.dirname(os.path.dirname(__file__))!r}]
        from pathlib import Path
        from test_tokenization import examples, tokenize
        for n in range(5, 25):
            assert len(tokenize(Path({str(tiny)!r}), "f", examples(n), 16, Path({str(tmp_path)!r}))) == n
    """
    running = [
        subprocess.Popen([sys.executable, "-c", textwrap.dedent(script)], stderr=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    assert [(r.communicate()[1][-500:], r.returncode) for r in running] == [("", 0)] * 3
