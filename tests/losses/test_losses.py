"""What must be true of a loss, over the whole registry: a new loss is tested by existing."""

import math

import pytest
import torch

from synthweight import losses
from synthweight.errors import MissingScoresError, UserError
from synthweight.losses import LOSSES, functional

ONLINE = {
    "lookahead": "adam", "exact": True, "sub_batch": 8, "alignment": "ghost", "dev_per_class": None, "dev_draw": "step",
    "dev_batch": 32,
}  # fmt: skip
SETTINGS = {
    "focal": {"gamma": 1.0, "detach": True},
    "filter": {"threshold": 0.5, "renormalise": True},
    "rho": {"share": 0.25, "renormalise": True},
    "hu": {**ONLINE, "lookahead_steps": 1.0, "decay": 5.0, "floor": 1e-5, "normalise": "linear"},
    "ren": ONLINE,
    "sungen": {
        "proxy": "head", "hidden": 8, "inner_lr": 1e-3, "inner_batch": 4, "outer_steps": 1, "outer_lr": 0.25, "outer_eps": 1e-8,
        "outer_clip": 3.0, "outer": "rce", "subset": 100, "batch": 16, "keep": 0.9, "keep_per_class": False, "label_logit": 10.0,
    },
}  # fmt: skip


def make_loss(name: str, **changed):
    return LOSSES[name](name=name, **{**SETTINGS.get(name, {}), **changed})


def batch(n=12, classes=3, scale=1.0, dtype=torch.float32, seed=0, requires_grad=True):
    g = torch.Generator().manual_seed(seed)
    logits = (scale * torch.randn(n, classes, generator=g)).to(dtype).requires_grad_(requires_grad)
    labels = torch.randint(classes, (n,), generator=g)
    quality, diversity = (-torch.rand(n, generator=g).to(torch.float32) for _ in range(2))
    return logits, labels, quality, diversity


def scored(logits, labels, quality=None, diversity=None):
    learned = None if quality is None else quality.exp()  # what a learner would bring along
    return losses.BatchScores.from_logits(
        torch.arange(len(labels)), logits, labels, quality, diversity, learned
    )


def value_of(loss, s, weighting=losses.PLAIN):
    return functional.weighted_nll(weighting(loss.weights(s)), s.nll)


def cross_entropy(logits, labels):
    return torch.nn.functional.cross_entropy(logits, labels)


@pytest.mark.parametrize("name", LOSSES)
def test_finite_value_and_gradient_at_extreme_logits(name):
    for labels in (torch.tensor([0, 1]), torch.tensor([1, 0])):  # sure and right, sure and wrong
        logits = torch.tensor([[40.0, -40.0, 0.0], [-40.0, 40.0, 0.0]], requires_grad=True)
        extreme = torch.tensor([-80.0, 0.0])
        value = value_of(make_loss(name), scored(logits, labels, extreme, extreme.flip(0)))
        value.backward()
        assert value.isfinite()
        assert logits.grad.isfinite().all()


@pytest.mark.parametrize("name", LOSSES)
def test_order_of_the_batch_does_not_matter(name):
    logits, labels, quality, diversity = batch(dtype=torch.float64)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(3))
    one = value_of(make_loss(name), scored(logits, labels, quality, diversity))
    other = value_of(make_loss(name), scored(logits[order], labels[order], quality[order], diversity[order]))
    assert one.item() == pytest.approx(other.item(), abs=1e-12)


@pytest.mark.parametrize("name", LOSSES)
def test_weights_are_held_constant(name):
    """The gradient is Σ w_i ∇nll_i / B with w a number: what the authors' code does for every loss."""
    logits, labels, quality, diversity = batch(dtype=torch.float64)
    s = scored(logits, labels, quality, diversity)
    weights = make_loss(name).weights(s)
    assert not weights.requires_grad
    got = torch.autograd.grad(value_of(make_loss(name), s), logits, retain_graph=True)[0]
    want = torch.autograd.grad((weights * s.nll).mean(), logits)[0]
    torch.testing.assert_close(got, want)
    assert (weights >= 0).all()


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_precision_of_weights(name, dtype):
    logits, labels, quality, diversity = batch(dtype=dtype)
    weights = make_loss(name).weights(scored(logits, labels, quality, diversity))
    assert weights.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)


@pytest.mark.parametrize("name", [n for n in LOSSES if LOSSES[n].needs])
def test_absent_scores_are_refused(name):
    logits, labels, *_ = batch()
    with pytest.raises(MissingScoresError, match="was not run"):
        value_of(make_loss(name), scored(logits, labels))


def test_cross_entropy_is_cross_entropy():
    logits, labels, *_ = batch()
    assert torch.equal(value_of(make_loss("ce"), scored(logits, labels)), (scored(logits, labels).nll).mean())
    assert value_of(make_loss("ce"), scored(logits, labels)).item() == pytest.approx(
        cross_entropy(logits, labels).item()
    )


@pytest.mark.parametrize(
    ("name", "want"),
    [
        ("focal", lambda s: functional.focal_weights(s.nll, 1.0)),
        ("imp", lambda s: functional.imp_weights(s.log_quality, s.log_diversity)),
        ("dimp", lambda s: functional.dimp_weights(s.log_quality, s.nll)),
        ("quality_only", lambda s: functional.quality_weights(s.log_quality)),
    ],
)
def test_a_loss_of_the_paper_is_its_function(name, want):
    s = scored(*batch())
    assert torch.equal(make_loss(name).weights(s), want(s))


def test_negative_gamma_is_refused():
    with pytest.raises(UserError, match=r"loss\.gamma"):
        make_loss("focal", gamma=-1.0)


def test_filter_weights_by_hand():
    logits, labels, *_ = batch(n=4)
    s = scored(logits, labels, torch.tensor([0.9, 0.5, 0.3, 0.51]).log())
    assert make_loss("filter").weights(s).tolist() == [2, 0, 0, 2]  # strictly above; n / kept
    assert make_loss("filter", renormalise=False).weights(s).tolist() == [1, 0, 0, 1]
    assert make_loss("filter", threshold=0.2).weights(s).tolist() == [1, 1, 1, 1]
    assert functional.guard_hits(make_loss("filter").weights(s)) == 0


def test_filter_that_keeps_all_is_cross_entropy():
    logits, labels, quality, _ = batch(dtype=torch.float64)
    quality[0] = -90.0  # a probability that fp32 cannot hold is still above 0
    for renormalise in (True, False):
        value = value_of(
            make_loss("filter", threshold=0.0, renormalise=renormalise), scored(logits, labels, quality)
        )
        got = torch.autograd.grad(value, logits)[0]
        torch.testing.assert_close(got, torch.autograd.grad(cross_entropy(logits, labels), logits)[0])


def test_filter_renormalised_is_the_mean_over_what_is_kept():
    logits, labels, quality, _ = batch(dtype=torch.float64)
    kept = quality > math.log(0.5)
    assert 0 < kept.sum() < len(kept)
    value = value_of(make_loss("filter"), scored(logits, labels, quality))
    assert value.item() == pytest.approx(cross_entropy(logits[kept], labels[kept]).item())


@pytest.mark.parametrize("renormalise", [True, False])
def test_a_batch_of_which_nothing_is_kept_has_a_loss_and_gradient_of_zero(renormalise):
    logits, labels, quality, _ = batch()
    for weighting in (losses.PLAIN, losses.Weighting(clip=2.0, self_normalise=True)):
        s = scored(logits, labels, quality - 5)
        value = value_of(make_loss("filter", renormalise=renormalise), s, weighting)
        value.backward()
        assert value.item() == 0
        assert (logits.grad == 0).all()


def test_rho_picks_the_largest_reducible_losses():
    logits, labels, quality, _ = batch(n=12)
    s = scored(logits, labels, quality)
    by_hand = sorted(range(12), key=lambda i: -(quality[i] + s.nll[i]).item())[:3]
    assert set(make_loss("rho").pick(s).tolist()) == set(by_hand)
    assert set(make_loss("dimp").weights(s).topk(3).indices.tolist()) == set(by_hand)  # log of DIMP's weight


@pytest.mark.parametrize(
    ("n", "share", "picked"), [(12, 0.25, 3), (2, 0.25, 1), (1, 0.1, 1), (7, 0.5, 4), (7, 1.0, 7)]
)
def test_rho_keeps_its_share_of_an_incomplete_batch(n, share, picked):
    logits, labels, quality, _ = batch(n=n)
    assert len(make_loss("rho", share=share).pick(scored(logits, labels, quality))) == picked


def test_rho_with_share_one_is_cross_entropy():
    logits, labels, quality, _ = batch()
    whole = make_loss("rho", share=1.0)
    assert whole.candidates == 1
    assert make_loss("rho").candidates == 4
    assert torch.equal(
        value_of(whole, scored(logits, labels, quality)), value_of(make_loss("ce"), scored(logits, labels))
    )
    assert (
        make_loss("rho", renormalise=False).weights(scored(logits, labels, quality)).tolist() == [0.25] * 12
    )


def test_only_a_loss_that_picks_draws_candidates():
    assert {name for name in LOSSES if make_loss(name).candidates != 1} == {"rho"}


def test_weights_are_clipped_and_then_normalised():
    weights = torch.tensor([0.5, 1.0, 4.0, 9.0])
    assert losses.PLAIN(weights) is weights
    assert losses.Weighting(2.0, False)(weights).tolist() == [0.5, 1, 2, 2]
    torch.testing.assert_close(losses.Weighting(2.0, True)(weights), 4 * torch.tensor([0.5, 1, 2, 2]) / 5.5)
    assert torch.equal(losses.Weighting(9.0, False)(weights), weights)
    torch.testing.assert_close(losses.Weighting(None, True)(torch.full((5,), 0.3)), torch.ones(5))
    tiny = functional.bounded_exp(torch.full((4,), -500.0))  # all at the guard: still a mean of one
    torch.testing.assert_close(losses.Weighting(None, True)(tiny), torch.ones(4))


@pytest.mark.parametrize("name", LOSSES)
def test_self_normalised_weights_have_a_mean_of_one(name):
    logits, labels, quality, diversity = batch(dtype=torch.float64)
    weights = losses.Weighting(None, True)(
        make_loss(name).weights(scored(logits, labels, quality, diversity))
    )
    assert weights.mean().item() == pytest.approx(1)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: make_loss("filter", threshold=-0.1), r"loss\.threshold must be .* is -0\.1"),
        (lambda: make_loss("filter", threshold=1.0), r"loss\.threshold must be .* below 1, is 1\.0"),
        (lambda: make_loss("rho", share=0.0), r"loss\.share must be above 0 and at most 1, is 0\.0"),
        (lambda: make_loss("rho", share=1.1), r"loss\.share .* is 1\.1"),
        (
            lambda: losses.Weighting(0.0, False),
            r"weighting\.clip must be above 0, or null for no bound, is 0\.0",
        ),
        (lambda: losses.Weighting(math.nan, False), r"weighting\.clip .* is nan"),
        (lambda: losses.Weighting(math.inf, False), r"weighting\.clip .* null for no bound, is inf"),
    ],
)
def test_settings_out_of_their_range_are_refused(make, message):
    with pytest.raises(UserError, match=message):
        make()
