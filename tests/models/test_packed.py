"""Batches without padding, and a word embedding of the words met alone: the same training."""

import copy
import dataclasses
from shutil import copytree

import numpy as np
import pytest
import torch
import transformers

from support.networks import batch, by_sequence, classifier
from support.training import equal, training_job
from synthweight.data.tokenization import TokenizedTexts
from synthweight.losses import LOSSES
from synthweight.models import classifier as model
from synthweight.models.packed import forward as packing
from synthweight.models.packed.embedding import TokenVocabulary
from synthweight.models.packed.forward import PackedForward
from synthweight.models.packed.layout import EVALUATION, TRAINING, Layout, Sequences
from synthweight.runs import run
from synthweight.runs.identity import identify
from synthweight.runs.store import Store
from synthweight.sweeps import estimate
from synthweight.training import devices, job, predict, trainer

LINES = [
    "ce", "focal", "imp", "dimp weighting.self_normalise=true", "quality_only", "filter", "rho", "hu",
    "hu loss.exact=false loss.alignment=difference", "ren loss.lookahead=sgd loss.alignment=difference",
    "sungen loss.outer_steps=3", "sungen loss.outer_steps=3 loss.proxy=lstm", "sungen loss.outer_steps=3 loss.proxy=encoder",
]  # fmt: skip


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    ("family", "types"),
    [*((f, False) for f in packing.FAMILIES), *((f, True) for f in packing.FAMILIES if f != "mpnet")],
)  # MPNet knows no segments
def test_the_packed_pass_is_the_padded_one(family, types, training):
    """Logits and every gradient, to 1e-9 in fp64; out of training with long and short texts apart."""
    network = classifier(family).train(training)
    inputs = batch(types=types)
    policy = TRAINING if training else EVALUATION
    layout = Layout.from_mask(inputs["attention_mask"], policy, by_length=not training)
    assert [group.shape[1] for group in layout.groups] == ([16] if training else [16, 8])
    assert len(layout.token_index) == policy.tokens
    out = []
    for forward in (network.forward, PackedForward(network)):
        network.zero_grad()
        logits = forward(**inputs).logits
        (logits * torch.arange(1, 13, dtype=torch.float64).view(4, 3)).sum().backward()
        out.append(
            (
                logits.detach(),
                {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None},
            )
        )
    torch.testing.assert_close(out[1], out[0], rtol=1e-9, atol=1e-9)
    assert out[0][0].std() > 0.01


@pytest.mark.parametrize("family", packing.FAMILIES)
def test_the_evaluated_pass_is_the_padded_one(family, monkeypatch):
    """By torch's own attention; long and short texts apart, or beside each other."""
    network = classifier(family).eval()
    kernel, calls = torch.nn.functional.scaled_dot_product_attention, []
    monkeypatch.setattr(
        torch.nn.functional,
        "scaled_dot_product_attention",
        lambda *a, **k: calls.append(1) or kernel(*a, **k),
    )
    for lengths in ((7, 1, 12, 3), (12, 9, 10)):
        inputs = batch(lengths, types=family != "mpnet")
        with torch.no_grad():
            plain, written = network(**inputs).logits, PackedForward(network)(**inputs).logits
        calls.clear()
        with torch.inference_mode():
            fused = PackedForward(network)(**inputs).logits
        assert len(calls) == 3 * (2 if len(lengths) == 4 else 1)
        torch.testing.assert_close(written, plain, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(fused.clone(), plain, rtol=1e-9, atol=1e-9)
        assert plain.std() > 0.01
    single = PackedForward(network.float())
    with torch.autocast("cpu", torch.bfloat16):
        with torch.no_grad():
            written = single(**inputs).logits
        with torch.inference_mode():
            torch.testing.assert_close(single(**inputs).logits.clone(), written, rtol=0.05, atol=0.05)


@pytest.mark.parametrize("lengths", [(7, 1, 12, 3), (64, 63), (128,)])
@pytest.mark.parametrize("types", [True, False])
@pytest.mark.parametrize("family", [f for f in packing.FAMILIES if f != "mpnet"])
def test_attention_by_sequences_is_that_of_the_padded_pass(family, types, lengths, monkeypatch):
    """A GPU's pass but for its kernel: logits and every gradient, to 1e-9 in fp64."""
    network = classifier(family, positions=140).train()
    inputs = batch(lengths, types=types)
    monkeypatch.setattr(packing, "varlen_attention", by_sequence)
    padded = network(**inputs).logits
    packed = PackedForward(network).of_sequences(
        **{"token_type_ids": None, **inputs}, device=torch.device("cpu")
    )
    out = []
    for logits in (padded, packed):
        network.zero_grad()
        (logits * torch.arange(1, 1 + logits.numel(), dtype=torch.float64).view_as(logits)).sum().backward()
        out.append(
            (
                logits.detach(),
                {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None},
            )
        )
    torch.testing.assert_close(out[1], out[0], rtol=1e-9, atol=1e-9)
    assert out[0][0].std() > 0.01


def test_a_batch_of_sequences_is_one_tensor():
    inputs = batch((7, 1, 12, 3))
    indices, shape = Sequences.pack(*inputs.values(), TRAINING)
    assert (indices.dtype, tuple(shape)) == (torch.int32, (128, 5, 128, True))
    found = Sequences.unpack(indices, shape)
    assert found.starts.tolist() == [0, 7, 8, 20, 23, 128]
    assert found.cls_index.tolist() == [0, 7, 8, 20, 23]
    assert found.counts.tolist() == list(range(6))
    assert found.ids[8:20].tolist() == inputs["input_ids"][2].tolist()
    assert found.types[8:20].tolist() == inputs["token_type_ids"][2].tolist()
    assert found.positions[:9].tolist() == [*range(7), 0, 0]
    assert found.positions[23:].eq(0).all()
    assert Sequences.pack(*batch((64, 63)).values(), TRAINING)[1].tokens == 128
    assert Sequences.pack(*batch((64, 64)).values(), TRAINING)[1].tokens == 256  # one fills up at least


def test_only_evaluation_is_by_torchs_attention(training, monkeypatch):
    """In batches of so many tokens; within a training freed memory is held."""
    kernel, calls, held = torch.nn.functional.scaled_dot_product_attention, [], []

    def counted(query, *rest, **named):
        calls.append((len(query), torch.is_inference_mode_enabled()))
        return kernel(query, *rest, **named)

    monkeypatch.setattr(job, "evaluation_tokens", lambda *_: 100)
    monkeypatch.setattr(predict, "evaluation_tokens", lambda *_: 100)
    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", counted)
    monkeypatch.setattr(trainer, "hold_memory", lambda: held.append(1))
    made = training("loss=ce")
    trainer.fit(made)
    assert 0 < max(texts for texts, _ in calls) < min(len(tokens) for tokens, _ in made.series.values())
    assert all(inference for _, inference in calls)  # none in training, whose attention has dropout
    assert held == [1]


@pytest.mark.parametrize("policy", [TRAINING, EVALUATION])
def test_sizes_are_few_and_near(policy):
    """Of any length: no more than 17, or 9, from a number to its double, none more than that part of it or a
    multiple above.
    """
    for n in range(1, 5000):
        up = n + policy.padding(n, policy.tokens)
        assert up % policy.tokens == 0
        assert 0 <= up - n < max(policy.tokens, n / policy.buckets_per_octave)
    for low in (40, 700, 4000):
        assert (
            len({n + policy.padding(n, policy.width) for n in range(low, 2 * low)})
            <= policy.buckets_per_octave + 1
        )


def test_padding_does_not_enter():
    """A text alone, and beside a longer one."""
    network = classifier("bert").eval()
    inputs = batch((3, 12))
    alone = {key: value[:1, :3] for key, value in inputs.items()}
    torch.testing.assert_close(
        PackedForward(network)(**inputs).logits[:1],
        PackedForward(network)(**alone).logits,
        rtol=1e-9,
        atol=1e-9,
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_dropout_keeps_the_share_and_the_mean(dtype):
    packed = PackedForward(classifier("bert").train())
    torch.manual_seed(0)
    for p in (0.1, 0.5):
        out = packed.dropout(torch.ones(999, 1001, dtype=dtype), p)
        kept = (out != 0).float().mean().item()
        assert kept == pytest.approx(1 - p, abs=5 * (p * (1 - p) / out.numel()) ** 0.5 + 2**-17)
        assert out.max().item() == pytest.approx(1 / (1 - p), rel=2**-8)
        rows = (out != 0).float().mean(1)
        # no two elements share their bits
        assert rows.std().item() == pytest.approx((p * (1 - p) / 1001) ** 0.5, rel=0.15)
    packed.network.eval()
    torch.testing.assert_close(packed.dropout(torch.ones(5), 0.5), torch.ones(5))


@pytest.mark.parametrize(
    ("width", "wide"), [(7, True), (12, True), (32, False), (40, False), (44, True), (64, False)]
)
def test_softmax_in_fp32_only_rounds_otherwise(width, wide):
    """Where bf16 scores fill a vector badly."""
    mask = batch((width, 3))["attention_mask"]
    (laid,) = Layout.from_mask(mask, TRAINING).groups
    assert laid.fp32_softmax == wide
    rng = torch.Generator().manual_seed(0)
    packed = PackedForward(classifier("bert").eval())
    found = []
    for group in (laid, dataclasses.replace(laid, fp32_softmax=not wide)):
        inputs = [
            torch.randn(2, 4, group.shape[1], 6, generator=rng.manual_seed(i)).bfloat16().requires_grad_()
            for i in range(3)
        ]
        out = packed.attend(*inputs, group, None)
        assert out.dtype == torch.bfloat16
        out.float().square().sum().backward()
        found.append([out.detach(), *(x.grad for x in inputs)])
    torch.testing.assert_close(found[0], found[1], rtol=0.05, atol=0.05)
    assert found[0][0].float().std() > 0.1


@pytest.mark.parametrize("family", packing.FAMILIES)
def test_dropout_is_where_the_encoder_has_it(family, monkeypatch):
    """With every dropout a factor of two, in theirs and in ours, the logits are the same."""
    network = classifier(family, dropout=0.1).train()
    network.set_attn_implementation("eager")
    inputs = batch(types=False)
    monkeypatch.setattr(torch.nn.functional, "dropout", lambda x, p=0.5, training=True, inplace=False: 2 * x)
    monkeypatch.setattr(PackedForward, "dropout", lambda self, x, p: x if p == 0 else 2 * x)
    theirs, ours = network(**inputs).logits, PackedForward(network)(**inputs).logits
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


@pytest.fixture
def log(caplog):
    """The package's messages, those that are logged once included."""
    for once in (packing.log_padded, devices.log_fallback):
        once.cache_clear()
    caplog.set_level("INFO", logger="synthweight")
    return caplog


def test_another_family_stays_as_it_is_which_is_logged_once(log):
    config = transformers.DistilBertConfig(vocab_size=50, dim=24, n_layers=1, n_heads=4, hidden_dim=40)
    network = transformers.AutoModelForSequenceClassification.from_config(config)
    with packing.packed_forward(network):
        assert "forward" not in vars(network)
    tokens = TokenizedTexts(np.array([7, 9], np.int32), np.zeros(0, np.uint8), np.array([0, 2]), 0)
    with packing.packed_network(network, [tokens]) as narrow:
        assert narrow(tokens) is tokens
        assert network.get_input_embeddings().weight.shape[0] == 50
    assert log.messages == [
        "distilbert encoders are padded; those packed are bert, roberta, xlm-roberta, mpnet"
    ]


def test_a_causal_encoder_is_padded(log):
    network = classifier("bert")
    network.config.is_decoder = True
    with packing.packed_forward(network):
        assert not packing.is_packed(network)
    assert "causal bert encoders are padded" in log.text


def test_a_training_of_another_family_is_padded_and_its_row_says_so(bound, tiny, tmp_path, log):
    folder = copytree(tiny, tmp_path / "electra")
    sizes = {
        "vocab_size": len((tiny / "vocab.txt").read_text().split()),
        "embedding_size": 16,
        "hidden_size": 16,
    }
    config = transformers.ElectraConfig(
        **sizes, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
    )
    transformers.ElectraModel(config).save_pretrained(folder)
    done = run.train(bound(f"model.path={folder}", "optim.epochs=1"))
    assert log.text.count("electra encoders are padded") == 1
    assert Store(tmp_path / "outputs").row(done.id)["provenance"]["fallbacks"] == {"padding": True}


# the words


def test_words_not_met_shrink_by_the_decay_alone():
    """The embedding after AdamW with a schedule, met and unmet words, is that of the whole table."""
    tokens = TokenizedTexts(np.array([7, 9, 3, 9], np.int32), np.zeros(0, np.uint8), np.array([0, 2, 4]), 1)
    whole = classifier("bert")
    narrow = copy.deepcopy(whole)

    def trained(network, ids):
        optimizer = torch.optim.AdamW(network.parameters(), lr=0.01, weight_decay=0.3)
        schedule = torch.optim.lr_scheduler.LinearLR(optimizer, total_iters=6)
        for _ in range(5):
            optimizer.zero_grad()
            network(input_ids=ids, attention_mask=torch.ones_like(ids)).logits.square().sum().backward()
            optimizer.step()
            schedule.step()

    trained(whole, torch.tensor([[7, 9], [3, 9]]))
    vocabulary = TokenVocabulary([tokens], padding=0)
    with vocabulary.pruned_embedding(narrow):
        assert narrow.get_input_embeddings().weight.shape[0] == len([0, 1, 3, 7, 9]) + 1
        trained(narrow, vocabulary.remap(tokens).batch([0, 1])["input_ids"])
    torch.testing.assert_close(narrow.state_dict(), whole.state_dict(), rtol=1e-9, atol=1e-9)
    assert not torch.equal(
        whole.get_input_embeddings().weight[20], classifier("bert").get_input_embeddings().weight[20]
    )


def test_a_batch_holds_the_words_numbers_and_that_of_its_padding():
    tokens = TokenizedTexts(np.array([7, 9, 3], np.int32), np.zeros(0, np.uint8), np.array([0, 2, 3]), 1)
    batch = TokenVocabulary([tokens], padding=0).remap(tokens).batch([0, 1])  # the words 0, 1, 3, 7, 9
    assert batch["input_ids"].tolist() == [[3, 4], [2, 1]]


# a training


@pytest.fixture
def training(bound, plain):
    """91 texts in batches of 15: seven steps an epoch; three epochs in fp64, 21 steps."""

    def make(*overrides, of=plain):
        job = bound(f"model.path={of}", "optim.epochs=3", "optim.batch_size=15", "source.n=91", "trainer.precision=64-true",
                    "optim.lr=0.002", "optim.weight_decay=0.1", *overrides)  # fmt: skip
        return training_job(job)

    return make


@pytest.fixture
def passes(monkeypatch):
    """Each packed pass leaves its word embedding's number of rows here."""
    found, call = [], PackedForward.__call__
    rows = lambda packed: len(packed.network.get_input_embeddings().weight)  # noqa: E731
    monkeypatch.setattr(
        PackedForward, "__call__", lambda self, *a, **k: found.append(rows(self)) or call(self, *a, **k)
    )
    return found


def padded_of(made):
    return dataclasses.replace(made, trainer=dataclasses.replace(made.trainer, padding=True))


@pytest.mark.parametrize("loss", LINES)
@pytest.mark.filterwarnings("ignore:.*(has sunk|fell to the floor|it needs trainer.padding):UserWarning")
def test_a_packed_training_is_the_padded_one(training, passes, loss):
    """Parameters after 21 steps, those of tokens that no text has too; weights by id; curves."""
    made = training(*f"loss={loss}".split())
    padded, before = trainer.fit(padded_of(made)), len(passes)
    packed = trainer.fit(made)
    assert before == 0
    assert len(passes) > before
    equal(padded, packed)


def test_every_loss_is_tried():
    assert {loss.split()[0] for loss in LINES} == set(LOSSES)


def test_a_failed_training_leaves_the_network_whole(training):
    made = training("loss=ce")
    network = model.build(made.folder, made.labels)
    before = copy.deepcopy(network.state_dict())
    with pytest.raises(RuntimeError, match="stop"), packing.packed_network(network, made.splits):
        assert "forward" in vars(network)
        raise RuntimeError("stop")
    torch.testing.assert_close(network.state_dict(), before, rtol=0, atol=0)
    assert "forward" not in vars(network)


def test_checkers_score_packed(training, passes):
    made = training("loss=ce")
    network = model.build(made.folder, made.labels)
    padded, packed = (predict.predict(network, made.train[0], 3, t.trainer) for t in (padded_of(made), made))
    np.testing.assert_allclose(packed, padded, atol=1e-5)
    assert padded.std() > 1e-3
    assert passes == [len(network.get_input_embeddings().weight)]  # the whole table; all texts in one batch


@pytest.mark.parametrize("setting", ["padding=true", "batching=random", "test=epoch", "precision=64-true"])
def test_what_changes_a_training_is_part_of_the_identity_and_of_its_speed(bound, setting):
    before, after = bound(), bound(f"trainer.{setting}")
    assert identify(before).id != identify(after).id
    assert estimate.size_key(estimate.as_row(before)) != estimate.size_key(estimate.as_row(after))


# precision


def test_without_bf16_units_fp32_is_used_which_is_logged_once(bound, tiny, monkeypatch, log):
    """The training that precision=32 gives, to the digit; the row says so."""
    narrow, wide = (
        training_job(bound(f"trainer.precision={p}", "optim.epochs=1")) for p in ("bf16-mixed", "32")
    )
    assert devices.machine(wide.trainer, {})["fallbacks"] == {}
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: False)
    fell = trainer.fit(narrow)
    assert log.text.count("trainer.precision=bf16-mixed: this cpu has no bf16 units; computing in fp32") == 1
    assert fell.epochs[0].train_loss == trainer.fit(wide).epochs[0].train_loss
    assert devices.machine(narrow.trainer, {})["fallbacks"] == {"precision": "32"}
    assert devices.machine(wide.trainer, {})["fallbacks"] == {}


@pytest.mark.parametrize(
    ("lengths", "groups"), [((9, 9, 8, 7), 1), ((9, 2), 2), ((9,), 1), ((9, 9, 2), 2), ((9, 2, 9, 9, 9), 1)]
)
def test_only_unlike_lengths_are_taken_apart(lengths, groups):
    layout = Layout.from_mask(batch(lengths)["attention_mask"], EVALUATION, by_length=True)
    assert len(layout.groups) == groups
    assert sum(len(group.cls_index) for group in layout.groups) == len(lengths)
    assert len(layout.groups[0].cls_index) >= len(layout.groups[-1].cls_index)
