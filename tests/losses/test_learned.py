"""Hu et al., Ren et al. and SunGen: what they learn, what they leave alone, what they refuse."""

import contextlib
import dataclasses
import random

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from support.gradients import alignment_explicit, per_example
from support.logs import logged
from support.toy import WORDS, sentence, write
from synthweight.config import compose, schema
from synthweight.data import sources
from synthweight.errors import MissingScoresError, UserError
from synthweight.losses import LOSSES, BatchScores, LearnerContext
from synthweight.losses.hu import Hu
from synthweight.losses.meta import gradients
from synthweight.losses.meta.functional_model import FunctionalClassifier
from synthweight.losses.meta.gradients import Lookahead
from synthweight.losses.meta.hu import HuLearner
from synthweight.losses.meta.sungen import SungenLearner
from synthweight.losses.ren import Ren
from synthweight.losses.sungen import Sungen
from synthweight.models import classifier, pretrained
from synthweight.models.packed import forward
from synthweight.runs import run
from synthweight.runs.store import Store
from synthweight.runs.tokens import tokenize_for
from synthweight.training import history, module
from synthweight.training.job import TrainingJob
from synthweight.training.trainer import fit

LEARNED = ["hu", "ren", "sungen"]


def split(job, examples, labels):
    position = {label: i for i, label in enumerate(labels)}
    return tokenize_for(job, examples), np.array([position[e.label] for e in examples])


def task(job, dtype=torch.float64, steps=3):
    """A task whose optimizer has a state, on real tokens, and a batch."""
    data = sources.build_run_data(job)
    train, dev = (split(job, part, data.labels) for part in (data.train, data.dev))
    torch.manual_seed(0)
    network = classifier.build(pretrained.locate(job.model), data.labels).to(dtype).train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.003, weight_decay=0.01)
    for step in range(steps):
        inputs = train[0].batch(list(range(8 * step, 8 * step + 8)))
        targets = torch.from_numpy(train[1])[inputs["index"]]
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(network(**classifier.inputs(inputs)).logits, targets).backward()
        optimizer.step()
    made = LearnerContext(
        network, lambda: optimizer, module.labelled_texts(train), module.labelled_texts(dev), data.labels, 0,
        torch.device("cpu"), contextlib.nullcontext, print,
    )  # fmt: skip
    return made, train[0].batch(list(range(40, 52)))


def hu(job, **changed) -> Hu:
    assert isinstance(job.loss, Hu)
    return dataclasses.replace(job.loss, **changed)


# what r_i is


@pytest.mark.parametrize("rows", [[0], [3, 4, 5, 6, 7, 8, 9, 10]])
@pytest.mark.parametrize(("lookahead", "length"), [("adam", 8.0), ("adam", 1.0), ("sgd", 8.0)])
def test_hus_response_is_the_derivative_in_the_weight(bound, plain, rows, lookahead, length):
    """By finite difference in w_i with the δ held; with one example, and a shorter look-ahead, too."""
    made, batch = task(bound("loss=hu", f"model.path={plain}"))
    learner = HuLearner(
        hu(bound("loss=hu"), lookahead=lookahead, lookahead_steps=length, dev_batch=None), made
    )
    learner.raw = torch.linspace(0.2, 2.0, len(learner.raw), dtype=torch.float64)
    look = Lookahead.from_optimizer(made.optimizer(), learner.network.named, lookahead == "adam")
    with learner.network.evaluation():
        got = learner.exact(look, batch, rows)
        params, w = learner.network.params(), learner.raw[batch["index"][rows]]
        deltas = []
        for row in rows:
            alone = {key: value[row : row + 1] for key, value in batch.items()}
            leaves = gradients.detached_leaves(params)
            value = learner.network.losses(leaves, alone, learner.targets[batch["index"][row : row + 1]])[0]
            deltas.append(look.delta(gradients.gradient(value, leaves)))

        def dev_loss(w):
            step = {
                name: length / 8 * sum(wi * d[name] for wi, d in zip(w, deltas, strict=True))
                for name in params
            }
            dev = made.dev.batch(list(range(len(made.dev.targets))))
            with torch.no_grad():
                return learner.network.losses(
                    look.ahead(params, step), dev, torch.from_numpy(made.dev.targets)
                ).mean()

        h = 1e-4
        for i in range(len(rows)):
            up, down = w.clone(), w.clone()
            up[i] += h
            down[i] -= h
            want = (dev_loss(up) - dev_loss(down)) / (2 * h * length / 8)
            assert got[i].item() == pytest.approx(want.item(), rel=1e-4, abs=1e-9)
    assert got.abs().max() > 1e-6
    assert made.network.training  # as it was


@pytest.mark.parametrize("lookahead", ["adam", "sgd"])
@pytest.mark.parametrize("alignment", ["difference", "ghost"])
def test_the_approximate_form_is_exact_in_its_own_terms(bound, plain, lookahead, alignment):
    """r_i = ⟨∇L_dev(θ'), δ_i⟩ with δ_i's denominator fixed: by explicit gradients of each example."""
    made, batch = task(bound("loss=hu", f"model.path={plain}"))
    learner = HuLearner(
        hu(bound("loss=hu"), lookahead=lookahead, alignment=alignment, exact=False, dev_batch=None), made
    )
    learner.raw = torch.linspace(0.2, 2.0, len(learner.raw), dtype=torch.float64)
    look = Lookahead.from_optimizer(made.optimizer(), learner.network.named, lookahead == "adam")
    with forward.packed_forward(made.network), learner.network.evaluation():
        got = learner.response(look, batch)
        step, _ = learner.linearized(look, batch)
        d = learner.dev.gradient(learner.network, step.ahead, 0)
        for i, g in enumerate(per_example(learner.losses_at(batch), learner.network.params())):
            delta = {name: look.affine(name, g[name], step.denominators[name]) for name in g}
            assert got[i].item() == pytest.approx(gradients.dot(d, delta).item(), rel=1e-4, abs=1e-9)
    assert not torch.equal(step.ahead["classifier.weight"], learner.network.named["classifier.weight"])


def test_under_sgd_the_cheap_form_is_the_exact_one(bound, plain):
    """One sub-batch as large as the batch: the same look-ahead, and nothing is approximated."""
    made, batch = task(bound("loss=hu", f"model.path={plain}"))
    one, other = (
        HuLearner(
            hu(
                bound("loss=hu"),
                lookahead="sgd",
                exact=exact,
                sub_batch=12,
                dev_batch=None,
                alignment="difference",
            ),
            made,
        )
        for exact in (True, False)
    )
    for learner in (one, other):
        learner.weights(batch)
    torch.testing.assert_close(one.raw, other.raw, rtol=1e-4, atol=1e-8)
    assert one.raw[batch["index"]].std() > 0


def test_rens_weight_is_the_clipped_alignment_with_dev(bound, plain):
    job = bound(
        "loss=ren",
        "loss.lookahead=sgd",
        "loss.alignment=difference",
        "loss.dev_batch=null",
        f"model.path={plain}",
    )
    made, batch = task(job)
    learner = job.loss.learner(made)
    weights = learner.weights(batch)
    with learner.network.evaluation():
        d = learner.dev.gradient(learner.network, learner.network.params(), 0)
        a = alignment_explicit(learner.losses_at(batch), learner.network.params(), d).clamp_min(0)
    assert (a == 0).any()
    assert (a > 0).any()
    torch.testing.assert_close(weights.double(), len(a) * a / a.sum(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("loss", ["hu", "hu loss.exact=false", "ren", "ren loss.lookahead=adam"])
def test_tokens_that_no_text_has_change_nothing(bound, plain, loss):
    """The responses with the embedding pruned to the batches' tokens are those with all of it."""
    job = bound(*f"loss={loss}".split(), "loss.alignment=difference", f"model.path={plain}")
    made, batch = task(job)
    learner = job.loss.learner(made)
    raw = learner.raw.clone()
    look = Lookahead.from_optimizer(made.optimizer(), learner.network.named, job.loss.lookahead == "adam")
    with learner.network.evaluation():
        whole = learner.update(raw[batch["index"]].double(), learner.response(look, batch))
    learner.raw = raw.double()
    learner.weights(batch)
    torch.testing.assert_close(learner.raw[batch["index"]], whole, rtol=1e-5, atol=1e-10)
    assert whole.std() > 0


def test_the_embedding_of_a_packed_network_is_pruned_to_the_batches_tokens(bound, plain):
    made, batch = task(bound("loss=hu", f"model.path={plain}"))
    with forward.packed_forward(made.network):
        network = FunctionalClassifier(made)
        with network.pruned(batch) as rows:
            ((name, kept),) = rows.items()
            assert set(batch["input_ids"].flatten().tolist()) <= set(kept.tolist())
            assert len(network.params()[name]) == len(kept) < len(network.named[name])


def test_until_adam_has_a_state_every_weight_is_one(bound, plain):
    made, batch = task(bound("loss=hu", f"model.path={plain}"), steps=0)
    learner = HuLearner(bound("loss=hu").loss, made)
    assert (learner.weights(batch) == 1).all()


def test_weights_are_updated_by_decay_floor_and_norm(bound, plain):
    made, _ = task(bound("loss=hu", f"model.path={plain}"))
    learner = HuLearner(hu(bound("loss=hu"), decay=4.0, floor=0.01), made)
    raw = learner.update(torch.tensor([1.0, 1.0, 1.0]), torch.tensor([-0.25, 0.05, 9.0]))
    torch.testing.assert_close(raw, torch.tensor([0.5, 0.2, 0.01]))
    weights, floored = learner.normalise(raw)
    torch.testing.assert_close(weights, 3 * raw / 0.71)
    assert not floored
    soft = HuLearner(hu(bound("loss=hu"), normalise="softmax"), made).normalise(raw)[0]
    torch.testing.assert_close(soft, 3 * raw.softmax(0))


# in the loop


class Uniform(HuLearner):
    """Does all that Hu's learner does, and finds every weight alike."""

    def update(self, old, response):
        assert response.isfinite().all()
        return torch.ones_like(old)


@dataclasses.dataclass
class UniformHu(Hu):
    def learner(self, task):
        return Uniform(self, task)


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("precision", ["32", "bf16-mixed"])
@pytest.mark.filterwarnings("ignore:precision:UserWarning")
def test_equal_weights_are_cross_entropy(bound, exact, precision):
    """To the digit, with dropout: the learner's passes take nothing from the training's random draws or
    state.
    """
    found = []
    for loss in ("ce", "hu"):
        job = bound(f"loss={loss}", f"trainer.precision={precision}")
        strategy = UniformHu(**{**dataclasses.asdict(job.loss), "exact": exact}) if loss == "hu" else job.loss
        found.append(trained(job, strategy))
    assert [e.metrics for e in found[0].epochs] == [e.metrics for e in found[1].epochs]
    np.testing.assert_allclose(found[1].epochs[0].weights, 1.0, rtol=1e-6)


def trained(job, strategy=None):
    data = sources.build_run_data(job)
    train, dev, test = (split(job, part, data.labels) for part in (data.train, data.dev, data.test))
    strategy = strategy or job.loss
    folder = pretrained.locate(job.model)
    made = TrainingJob.from_run(job, folder, data.labels, train, {"selection": test})
    return fit(dataclasses.replace(made, strategy=strategy, select=True, dev=dev))


def test_sungen_goes_on_within_its_phase(bound, plain):
    """Stopped after 3 of 6 outer steps, through a file, and resumed."""
    job = bound("loss=sungen", "loss.outer_steps=6", f"model.path={plain}")
    made, _ = task(job, dtype=torch.float32)
    whole = SungenLearner(job.loss, made)
    whole.before_training()
    part = SungenLearner(dataclasses.replace(job.loss, outer_steps=3), made)
    part.before_training()
    resumed = SungenLearner(job.loss, made)
    resumed.load_state_dict({key: value.clone() for key, value in part.state_dict().items()})
    resumed.before_training()
    assert resumed.made == whole.made == 6
    torch.testing.assert_close(resumed.u, whole.u, rtol=0, atol=0)
    assert not torch.equal(part.u, whole.u)


# what they find


@pytest.fixture(scope="module")
def larger(toy, tmp_path_factory):
    """The toy benchmark with 600 training texts: enough for one epoch of a small model to learn something."""
    folder = tmp_path_factory.mktemp("larger")
    for name in ("small_real", "test"):
        (folder / f"{name}.jsonl").write_text((toy / f"{name}.jsonl").read_text())
    rng = random.Random(11)
    rows = [{"text": f"{sentence(rng, label)} {i}", "label": label} for i in range(200) for label in WORDS]
    write(folder / "synthetic.jsonl", rows)
    return folder


@pytest.mark.parametrize("proxy", ["lstm", "head", "encoder"])
def test_sungen_finds_swapped_labels(bound, larger, proxy):
    """On words that tell the classes apart; its inner rate is the toy's own."""
    lr = {"lstm": 0.01, "head": 0.01, "encoder": 0.003}[proxy]
    job = bound(f"dataset.path={larger}", "loss=sungen", "corruption.swapped=0.3", f"loss.proxy={proxy}",
                f"loss.inner_lr={lr}", "loss.inner_batch=8", "loss.outer_steps=10", "loss.outer_lr=0.25")  # fmt: skip
    data = sources.build_run_data(job)
    made, _ = task(job, dtype=torch.float32, steps=0)
    learner = SungenLearner(job.loss, made)
    learner.before_training()
    swapped = np.array([e.kind == "swapped" for e in data.train])
    assert swapped.sum() == 180
    assert roc_auc_score(~swapped, learner.u.detach().numpy()) > 0.75


def test_only_the_highest_weights_enter_the_outer_loss(bound, plain):
    made, _ = task(bound("loss=sungen", f"model.path={plain}"), dtype=torch.float32)
    targets = made.train.targets
    for per_class in (False, True):
        learner = SungenLearner(
            dataclasses.replace(bound("loss=sungen").loss, keep=0.5, keep_per_class=per_class), made
        )
        with torch.no_grad():
            learner.u.copy_(
                torch.from_numpy(np.where(targets == 0, -5.0, 1.0) + np.linspace(0, 1, len(targets)))
            )
        chosen = learner.trusted(np.random.default_rng(0))
        assert len(set(chosen.tolist())) == len(chosen) == 48
        assert ((targets[chosen] == 0).sum() == 16) == per_class
        assert ((targets[chosen] == 0).sum() == 0) != per_class
    few = dataclasses.replace(bound("loss=sungen").loss, subset=7)
    assert len(SungenLearner(few, made).trusted(np.random.default_rng(0))) == 7


@pytest.mark.parametrize("loss", LEARNED)
def test_learned_weights_lie_in_the_row_by_id(bound, loss):
    job = bound(f"loss={loss}", *(["loss.outer_steps=3"] if loss == "sungen" else []))
    outcome = run.train(job)
    store = Store(job.paths.outputs)
    row, table = store.row(outcome.id), store.table(outcome.id)
    assert row["seconds"]["weights"] > 0
    assert row["config"]["loss"] == dataclasses.asdict(job.loss)
    lines = [x for x in table.to_pylist() if x["split"] == "train" and x["epoch"] == 2]
    assert [x["id"] for x in lines] == [e.id for e in sources.build_run_data(job).train]
    weights = np.array([x["weight"] for x in lines])
    assert weights.std() > 0
    if loss != "sungen":  # normalised within each batch of 16, each example once an epoch
        assert weights.mean() == pytest.approx(1, abs=1e-4)


# what is refused, and what is said


@pytest.mark.parametrize("loss", ["hu", "ren"])
def test_a_dev_set_that_is_not_there_is_refused(bound, loss):
    with pytest.raises(UserError, match=r"loss\.dev_per_class=16: class 'negative' has 15 examples"):
        run.train(bound(f"loss={loss}", "loss.dev_batch=null", "loss.dev_per_class=16"))
    with pytest.raises(UserError, match=r"both set"):
        bound(f"loss={loss}", "loss.dev_per_class=4")


@pytest.mark.parametrize("loss", ["hu", "ren"])
def test_a_dev_batch_larger_than_the_dev_set_is_all_of_it(bound, plain, loss, caplog):
    from synthweight.losses.meta.functional_model import log_small_dev_set

    log_small_dev_set.cache_clear()
    job = bound(f"loss={loss}", "loss.dev_batch=46", f"model.path={plain}")
    made, _ = task(job)
    with caplog.at_level("INFO"):
        for _ in range(2):
            learner = job.loss.learner(made)
            assert sorted(learner.dev.draw(3).tolist()) == list(range(45))
    assert [r.message for r in caplog.records if "dev_batch" in r.message] == [
        "loss.dev_batch=46: D_P' has 45 examples, all of them are taken at every step"
    ]


@pytest.mark.parametrize("source", ["small_real", "mixed"])
def test_training_on_the_dev_set_is_refused(bound, source):
    with pytest.raises(UserError, match=r"its dev set D_P' would be in its training set"):
        bound("loss=hu", f"source={source}", "selection=last")
    with pytest.raises(UserError, match=r"its dev set D_P' would be in its training set"):
        bound("loss=sungen", "loss.outer=dev", f"source={source}", "selection=last")
    assert isinstance(bound("loss=sungen", f"source={source}", "selection=last"), schema.Run)


BAD = {
    "hu": {
        "lookahead_steps": 0, "decay": 0, "floor": 0, "normalise": "max", "lookahead": "lion", "alignment": "vjp", "sub_batch": 0,
        "dev_draw": "x",
    },
    "ren": {"lookahead": "lion", "dev_batch": 0},
    "sungen": {"proxy": "gpt", "outer": "ce", "keep": 0, "inner_lr": 0, "outer_steps": 0, "subset": 0, "label_logit": 0},
}  # fmt: skip


@pytest.mark.parametrize(
    ("loss", "key", "value"), [(x, k, v) for x, bad in BAD.items() for k, v in bad.items()]
)
def test_a_setting_out_of_range_names_its_key(bound, loss, key, value):
    with pytest.raises(UserError, match=rf"loss\.{key} must be .*, is "):
        bound(f"loss={loss}", f"loss.{key}={value}")


def test_holding_out_keeps_the_dev_set_and_the_selection_apart(bound):
    data = sources.build_run_data(bound("loss=hu", "selection=holdout"))
    assert len(data.selection) == 9
    assert {e.id for e in data.dev}.isdisjoint(e.id for e in data.selection)
    assert len(data.dev) == 36


def test_dev_batches_are_drawn_by_seed_and_step_alone(bound, plain):
    made, _ = task(bound("loss=hu", f"model.path={plain}"))
    learner = HuLearner(hu(bound("loss=hu"), dev_batch=None, dev_per_class=4), made)
    assert sorted(made.dev.targets[learner.dev.draw(3)]) == [0] * 4 + [1] * 4 + [2] * 4
    assert (learner.dev.draw(3) == learner.dev.draw(3)).all()
    assert (learner.dev.draw(3) != learner.dev.draw(4)).any()
    fixed = HuLearner(hu(bound("loss=hu"), dev_draw="fixed"), made)
    assert (fixed.dev.draw(3) == fixed.dev.draw(4)).all()
    assert len(set(fixed.dev.draw(0))) == 32


def test_narrow_precision_is_left_for_the_difference_and_said_once(bound):
    job = bound("loss=hu", "loss.exact=false", "loss.alignment=difference", "trainer.precision=bf16-mixed")
    with logged("computed in fp32") as caught:
        fitted = trained(job)
    assert sum("computed in fp32" in w for w in caught) == 1
    assert np.isfinite(fitted.epochs[-1].weights).all()


def test_an_encoder_without_ghost_products_falls_back_with_one_warning(bound, plain):
    """A padded one."""
    made, batch = task(bound("loss=hu", f"model.path={plain}"))
    settings = hu(bound("loss=hu"), exact=False, alignment="ghost")
    learner = HuLearner(settings, made)
    other = HuLearner(dataclasses.replace(settings, alignment="difference"), made)
    with logged("loss.alignment=ghost: it needs .*; central differences are used instead") as caught:
        first, _ = learner.weights(batch), learner.weights(batch)
    assert len(caught) == 1
    torch.testing.assert_close(first, other.weights(batch))
    assert (learner.fallbacks(), other.fallbacks()) == ({"alignment": "difference"}, {})


def test_ghost_products_of_an_example_without_weight(bound, plain):
    """They are those of central differences, though its share in the look-ahead's backward pass is nothing."""
    made, batch = task(bound("loss=hu", f"model.path={plain}"))
    settings = hu(bound("loss=hu"), exact=False, alignment="ghost", dev_batch=None)
    found = []
    with forward.packed_forward(made.network):
        for alignment in ("ghost", "difference"):
            learner = HuLearner(dataclasses.replace(settings, alignment=alignment), made)
            learner.raw[batch["index"][0]] = 0.0
            look = Lookahead.from_optimizer(made.optimizer(), learner.network.named, adam=True)
            with learner.network.evaluation():
                found.append(learner.response(look, batch))
    torch.testing.assert_close(found[0], found[1], rtol=1e-4, atol=1e-9)


def test_weights_that_all_fall_to_the_floor_are_said_and_uniform(bound, plain):
    made, batch = task(bound("loss=hu", f"model.path={plain}"))
    learner = HuLearner(hu(bound("loss=hu"), floor=1e6), made)
    assert (learner.weights(batch) == 1).all()
    assert learner.epoch_warnings() == [
        "all weights fell to the floor in 1 batches: those were trained with uniform weights"
    ]
    assert learner.epoch_warnings() == []
    ren = bound("loss=ren").loss.learner(made)
    assert ren.normalise(torch.zeros(4)) == (pytest.approx(torch.ones(4)), True)


def test_a_class_that_sinks_is_named():
    weights, targets = np.array([1.0, 1.2, 0.01, 0.02, 0.9]), np.array([0, 0, 1, 1, 2])
    (note,) = history.collapsed_classes(weights, targets, ("good", "bad", "meh"))
    assert "class 'bad' is down-weighted" in note
    assert history.collapsed_classes(np.ones(5), targets, ("good", "bad", "meh")) == []


@pytest.mark.parametrize("loss", LEARNED)
def test_absent_learned_weights_are_refused(bound, loss):
    scored = BatchScores.from_logits(torch.arange(2), torch.zeros(2, 3), torch.tensor([0, 1]))
    with pytest.raises(MissingScoresError, match="learner was not run"):
        bound(f"loss={loss}").loss.weights(scored)
    assert isinstance(bound(f"loss={loss}").loss, (Hu, Ren, Sungen))
    assert loss in LOSSES


# with the real encoder

REAL = [
    "source.n=384", "optim.epochs=3", "selection=last", "trainer.accelerator=cpu", "logger=none",
]  # fmt: skip
# Ren et al. find no swapped labels (docs/tuning.md)
METHODS = ["hu loss.exact=false loss.alignment=ghost", "hu", "sungen"]


def real_weights(tmp_path, seed, *overrides):
    """The mean weights of the last epoch and which labels were swapped: product_reviews, MiniLM."""
    with compose.offline(compose.CONF):
        paths = [f"paths.outputs={tmp_path / 'outputs'}"]
        job = compose.Composer("config").run([*REAL, *paths, f"seed={seed}", *overrides])
    outcome = run.train(job)
    lines = [
        x
        for x in Store(job.paths.outputs).table(outcome.id).to_pylist()
        if x["split"] == "train" and x["epoch"] == 3
    ]
    return np.array([x["weight"] for x in lines]), np.array([x["kind"] == "swapped" for x in lines])


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.filterwarnings("ignore:.*computed in fp32:UserWarning")
def test_swapped_labels_end_below_clean_ones(tmp_path, method):
    """Over three seeds, on real texts with the real encoder."""
    clean, bad = [], []
    for seed in range(3):
        weights, swapped = real_weights(tmp_path, seed, *f"loss={method}".split(), "corruption.swapped=0.3")
        assert swapped.mean() == pytest.approx(0.3, abs=0.01)
        clean.append(weights[~swapped].mean())
        bad.append(weights[swapped].mean())
    assert np.mean(bad) < np.mean(clean)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("method", [*METHODS, "ren loss.alignment=ghost"])
@pytest.mark.filterwarnings("ignore:.*computed in fp32:UserWarning")
def test_with_nothing_swapped_the_weights_tell_nothing(tmp_path, method):
    """Against a random 30 %, over a hundred draws of it."""
    weights, swapped = real_weights(tmp_path, 0, *f"loss={method}".split())
    assert not swapped.any()
    rng = np.random.default_rng(0)
    found = [
        roc_auc_score(rng.permutation(np.arange(len(weights)) < 0.3 * len(weights)), weights)
        for _ in range(100)
    ]
    assert np.mean(found) == pytest.approx(0.5, abs=0.05)
